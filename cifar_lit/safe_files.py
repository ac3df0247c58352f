"""Writes that a crash, a full disk or another process cannot spoil."""

import contextlib
import os
import shutil
from pathlib import Path

from filelock import FileLock, Timeout

from cifar_lit.errors import InputError


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
    # In the same folder, since a rename does not cross file systems
    unfinished = file.with_name(f".{file.name}.unfinished")
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


def reserve(file: Path) -> None:
    """Reserve the disk space of a sparse file: on a full disk, writing to its memory map would end the process.

    Raises:
        OSError: if there is not enough space.
    """
    if hasattr(os, "posix_fallocate"):  # not on macOS and Windows
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)


def create_folder(folder: Path) -> None:
    """Create a folder if it does not exist; raise OSError if a megabyte cannot be written to it."""
    probe = folder / ".probe"
    write_atomically(probe, bytes(2**20))
    probe.unlink()


def lock_folder(folder: Path) -> FileLock:
    """Lock a folder for this process until the lock is released or the process ends, however it ends.

    Raises:
        InputError: if another process holds it.
    """
    lock = FileLock(folder / ".lock", is_singleton=True)  # this process may train in it again
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise InputError(f"another process is training in {folder}; wait until it ends, or stop it") from error
    except (OSError, NotImplementedError):  # a file system without locks
        pass
    return lock


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
