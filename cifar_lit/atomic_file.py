"""Atomic writes: after a crash, a file has its old content or the new, never a mixture."""

import contextlib
import os
import shutil
from pathlib import Path


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
