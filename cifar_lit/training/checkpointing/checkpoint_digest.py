"""Digests of checkpoint files: one in each file, to detect damage, and one to link other files to it.

A checkpoint is a zip archive. A digest of its bytes is stored in the archive's comment, which readers of such files
ignore; torch itself does not notice a flipped bit.
"""

import hashlib
import io
import mmap
import zipfile
from functools import lru_cache
from pathlib import Path

# Starts the last record of a zip archive: 22 bytes, of which the last two are the comment's length
_END = b"PK\x05\x06"
_END_LENGTH = 22
_LABEL = b"blake2b "
_COMMENT_LENGTH = len(_LABEL) + 64


def seal(archive: io.BytesIO) -> None:
    """Add the digest of a zip archive, which must have no comment, as its comment."""
    with archive.getbuffer() as content:
        content[-2:] = _COMMENT_LENGTH.to_bytes(2, "little")
        digest = _digest(content)
    archive.seek(0, io.SEEK_END)
    archive.write(_LABEL + digest)


def find_damage(file: Path) -> str | None:
    """Describe the damage to a checkpoint file, phrased to follow its name in a message; None if intact.

    In a file without a digest, written by another program, the zip archive's own checksums are checked.

    Raises:
        OSError: if it cannot be read.
    """
    try:
        stat = file.stat()
    except OSError:
        if not file.is_symlink():
            raise
        return "is a link to nothing"
    if file.is_dir():  # a sharded checkpoint has its own checks
        return None if any(file.iterdir()) else "is an empty folder"
    return _find_damage(file.absolute(), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@lru_cache(maxsize=64)
def _find_damage(file: Path, size: int, modified: int, changed: int) -> str | None:
    if size < _END_LENGTH:
        return "is truncated"
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = content[-_END_LENGTH - _COMMENT_LENGTH : -_COMMENT_LENGTH]
        comment = content[-_COMMENT_LENGTH:]
        if end[:4] == _END and int.from_bytes(end[-2:], "little") == _COMMENT_LENGTH and comment.startswith(_LABEL):
            with memoryview(content) as view, view[:-_COMMENT_LENGTH] as sealed:
                return None if comment == _LABEL + _digest(sealed) else "was damaged after it was written"
        if content[-_END_LENGTH:-18] != _END or content[-2:] != b"\0\0":
            return "is truncated or damaged"
    try:
        with zipfile.ZipFile(file) as archive:
            return "was damaged after it was written" if archive.testzip() else None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OverflowError, ValueError):
        return "is damaged"


def _digest(content: memoryview) -> bytes:
    return hashlib.blake2b(content, digest_size=32).hexdigest().encode()
