"""Checkpoint files that are whole or not there: what was damaged since it was written is noticed, and never read.

A checkpoint is a zip archive. A digest of all its bytes stands in the archive's comment, where every reader of such
files passes over it; torch itself notices no flipped bit.
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

_END = b"PK\x05\x06"  # begins the last record of a zip archive, 22 bytes; the last two say how long the comment is
_END_LENGTH = 22
_LABEL = b"blake2b "
_COMMENT_LENGTH = len(_LABEL) + 64


def seal(archive: io.BytesIO) -> None:
    """Adds the digest of a zip archive to it, as its comment.

    Raises:
        ValueError: if it is no zip archive, or has a comment already.
    """
    with archive.getbuffer() as content:
        if bytes(content[-_END_LENGTH:-18]) != _END or bytes(content[-2:]) != b"\0\0":
            raise ValueError("a zip archive without a comment is expected")
        content[-2:] = _COMMENT_LENGTH.to_bytes(2, "little")
        digest = _digest(content)
    archive.seek(0, io.SEEK_END)
    archive.write(_LABEL + digest)


def damage(file: Path) -> str | None:
    """What is wrong with a checkpoint's file, in words that follow its name; None if it is whole.

    Of a file without a digest, written by another program, the sums that a zip archive has of its parts are checked.

    Raises:
        OSError: if it cannot be read.
    """
    stat = file.stat()
    if file.is_dir():
        return None  # of a sharded strategy, which checks its own
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
    """Writes a file so that a kill, a crash or a full disk leaves it as it was before, or whole.

    Args:
        file: Where to write.
        content: What to write.
        previous: Where to keep what was there before.

    Raises:
        OSError: if it cannot be written; nothing is left of the attempt.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.unfinished")  # in the same folder, so that it can be renamed
    try:
        with unfinished.open("wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())  # before the name points to it
        if previous is not None and file.exists():
            _keep(file, previous)
        os.replace(unfinished, file)
        _sync_folder(file.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def _keep(file: Path, previous: Path) -> None:
    second_name = previous.with_name(f".{previous.name}.unfinished")
    second_name.unlink(missing_ok=True)
    try:
        os.link(file, second_name)
    except OSError:  # a file system without hard links
        shutil.copy2(file, second_name)
    os.replace(second_name, previous)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every system opens folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
