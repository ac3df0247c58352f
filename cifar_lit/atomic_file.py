"""Atomic writes, and detection of damaged checkpoint files.

A checkpoint is a zip archive. A digest of its bytes is stored in the archive's comment, which readers of such files
ignore; torch itself does not notice a flipped bit.
"""

import contextlib
import hashlib
import io
import mmap
import os
import shutil
import zipfile
from functools import lru_cache
from pathlib import Path

_END = (
    b"PK\x05\x06"  # starts the last record of a zip archive: 22 bytes, of which the last two are the comment's length
)
_END_LENGTH = 22
_LABEL = b"blake2b "
_COMMENT_LENGTH = len(_LABEL) + 64


def seal(archive: io.BytesIO) -> None:
    """Add the digest of a zip archive as its comment.

    Raises:
        ValueError: if it is not a zip archive or already has a comment.
    """
    with archive.getbuffer() as content:
        if bytes(content[-_END_LENGTH:-18]) != _END or bytes(content[-2:]) != b"\0\0":
            raise ValueError("expected a zip archive without a comment")
        content[-2:] = _COMMENT_LENGTH.to_bytes(2, "little")
        digest = _digest(content)
    archive.seek(0, io.SEEK_END)
    archive.write(_LABEL + digest)


def damage(file: Path) -> str | None:
    """Return what is wrong with a checkpoint file, to follow its name in an error message; None if it is intact.

    In a file without a digest, written by another program, the zip archive's own checksums are checked.

    Raises:
        OSError: if it cannot be read.
    """
    stat = file.stat()
    if file.is_dir():
        return None  # a sharded checkpoint, which has its own checks
    return _damage(file.absolute(), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@lru_cache(maxsize=64)
def _damage(file: Path, size: int, modified: int, changed: int) -> str | None:
    if size < _END_LENGTH:
        return "is cut short"
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = content[-_END_LENGTH - _COMMENT_LENGTH : -_COMMENT_LENGTH]
        comment = content[-_COMMENT_LENGTH:]
        if end[:4] == _END and int.from_bytes(end[-2:], "little") == _COMMENT_LENGTH and comment.startswith(_LABEL):
            with memoryview(content) as view, view[:-_COMMENT_LENGTH] as sealed:
                return None if comment == _LABEL + _digest(sealed) else "was damaged after it was written"
        if content[-_END_LENGTH:-18] != _END or content[-2:] != b"\0\0":
            return "is cut short or damaged"
    try:
        with zipfile.ZipFile(file) as archive:
            return "was damaged after it was written" if archive.testzip() else None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OverflowError, ValueError):
        return "is damaged"


def _digest(content: memoryview) -> bytes:
    return hashlib.blake2b(content, digest_size=32).hexdigest().encode()


def write_atomically(file: Path, content: bytes | bytearray | memoryview, previous: Path | None = None) -> None:
    """Write a file atomically: a kill, a crash or a full disk leaves the old content or the new, never a mixture.

    Args:
        file: The file.
        content: New content of the file.
        previous: File that keeps the old content; None to discard it.

    Raises:
        OSError: if it cannot be written; the unfinished file is removed.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(
        f".{file.name}.unfinished"
    )  # in the same folder, since a rename does not cross file systems
    try:
        with unfinished.open("wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())  # data must be on disk before the name points to it
        if previous is not None and file.exists():
            _replace_with_link(previous, file)
        os.replace(unfinished, file)
        _sync_folder(file.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def _replace_with_link(previous: Path, file: Path) -> None:
    link = previous.with_name(f".{previous.name}.unfinished")
    link.unlink(missing_ok=True)
    try:
        os.link(file, link)
    except OSError:  # a file system without hard links
        shutil.copy2(file, link)
    os.replace(link, previous)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # Windows cannot open folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
