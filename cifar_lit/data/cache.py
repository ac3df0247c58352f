"""Image folders decoded once: pixels on disk as one memory-mapped array, used again while the folder is unchanged."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from PIL import Image
from rich.progress import track

from cifar_lit.data.batches import ImageTensors
from cifar_lit.data.statistics import statistics
from cifar_lit.errors import InputError
from cifar_lit.inference.images import SUFFIXES, read_image

_FORMAT = 2  # raise when what is written changes
_PARTS = ("pixels.npy", "labels.npy", "files.json")
_LARGEST_KEPT = 128  # images of one size up to this many pixels a side are kept as they are
_DEFAULT_SIZE = (64, 64)  # what others are resized to
_OPTION = "--data.skip_unreadable true"
_NAMED = 10  # unreadable files that an error names, of all that there are


@dataclass(frozen=True)
class FolderImages:
    """The decoded images of one split, and what was found out about them while decoding."""

    images: ImageTensors
    image_size: tuple[int, int]
    mean: list[float]
    std: list[float]


@dataclass(frozen=True)
class _ImageFile:
    path: str
    label: int
    # what the file system says of it; ctime cannot be set back, so a file that was changed in place is noticed
    size: int
    modified: int
    changed: int


def decoded_folder(
    folder: Path,
    class_names: Sequence[str],
    cache_dir: Path,
    *,
    size: tuple[int, int] | None = None,
    skip_unreadable: bool = False,
) -> FolderImages:
    """The images of ``folder/<class>/``, from the cache if nothing changed since they were decoded, else decoded now.

    Args:
        folder: Holds a folder of images for each class.
        class_names: The classes, in the order of their labels; a class may lack here.
        cache_dir: Where decoded images are kept, one entry for each folder.
        size: Height and width to resize to; None keeps images of one size up to 128 pixels, and resizes others to 64.
        skip_unreadable: Whether to go on without a file that cannot be read.

    Raises:
        InputError: if there is no image, one cannot be read, or the cache cannot be written.
    """
    files = list(_scan(folder, class_names))
    if not files:
        raise InputError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}) in folders named by class")
    wanted = [_FORMAT, list(class_names), size, skip_unreadable, [list(asdict(file).values()) for file in files]]
    fingerprint = hashlib.blake2b(json.dumps(wanted).encode()).hexdigest()
    name = hashlib.blake2b(json.dumps([str(folder.resolve()), size]).encode(), digest_size=8).hexdigest()
    entry = cache_dir / name
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(cache_dir / f"{name}.lock"):  # one process decodes, the others wait and read
            found = _read(entry, fingerprint)
            if found is None:
                _write(entry, fingerprint, folder, files, size, skip_unreadable)
                found = _read(entry, fingerprint)
    except OSError as error:
        raise InputError(
            f"the decoded images of {folder} cannot be kept in {cache_dir} ({error});"
            " choose a folder that can be written and has room: --data.cache_dir DIR"
        ) from error
    assert found is not None
    return found


def _scan(folder: Path, class_names: Sequence[str]) -> Iterator[_ImageFile]:
    for label, class_name in enumerate(class_names):
        yield from sorted(_scan_class(folder / class_name, class_name, label), key=lambda file: file.path)


def _scan_class(folder: Path, relative: str, label: int) -> Iterator[_ImageFile]:
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = f"{relative}/{entry.name}"
            if entry.is_dir():
                yield from _scan_class(folder / entry.name, path, label)
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                try:
                    stat = entry.stat()
                except OSError as error:
                    raise InputError(f"{folder / entry.name} cannot be read ({error.strerror}): remove it") from error
                yield _ImageFile(path, label, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _read(entry: Path, fingerprint: str) -> FolderImages | None:
    """The cache entry; None if it is missing, belongs to other images, or is not as it was written."""
    try:
        meta = json.loads((entry / "meta.json").read_text())
        written = {name: _stamp(entry / name) for name in _PARTS}
        if meta["fingerprint"] != fingerprint or meta["written"] != written:
            return None
        # copy-on-write, since torch warns of memory that it may not write
        pixels = torch.from_numpy(np.load(entry / "pixels.npy", mmap_mode="c"))
        labels = torch.from_numpy(np.load(entry / "labels.npy"))
        files = json.loads((entry / "files.json").read_text())
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    height, width = pixels.shape[-2:]
    return FolderImages(ImageTensors(pixels, labels, files), (height, width), meta["mean"], meta["std"])


def _write(
    entry: Path,
    fingerprint: str,
    folder: Path,
    files: list[_ImageFile],
    size: tuple[int, int] | None,
    skip_unreadable: bool,
) -> None:
    """Decodes the files into a new entry, which appears whole or not at all."""
    unfinished = entry.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    if skip_unreadable:
        files = _readable(folder, files)
    height, width = size or _common_size(folder, files)
    pixels = np.lib.format.open_memmap(
        unfinished / "pixels.npy", mode="w+", dtype=np.uint8, shape=(len(files), 3, height, width)
    )

    def decode(row: int) -> InputError | None:
        """The error, if there is one; the other files are read all the same, so that all bad ones are named at once."""
        try:
            pixels[row] = read_image(folder / files[row].path, (height, width)).transpose(2, 0, 1)
        except InputError as error:
            return error
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoding = track(pool.map(decode, range(len(files))), f"Decoding {folder}", len(files), transient=True)
        errors = {file.path: error for file, error in zip(files, decoding, strict=True) if error is not None}
    if len(errors) == 1:
        raise InputError(f"{next(iter(errors.values()))}: replace or remove it, or leave it out: {_OPTION}")
    if errors:
        named = ", ".join(list(errors)[:_NAMED]) + (f" and {len(errors) - _NAMED} more" if len(errors) > _NAMED else "")
        raise InputError(
            f"{len(errors)} files in {folder} cannot be read as images: {named};"
            f" replace or remove them, or leave them out: {_OPTION}"
        )
    pixels.flush()
    np.save(unfinished / "labels.npy", np.array([file.label for file in files], dtype=np.int64))
    mean, std = statistics(torch.from_numpy(pixels))
    (unfinished / "files.json").write_text(json.dumps([file.path for file in files]))
    written = {name: _stamp(unfinished / name) for name in _PARTS}
    meta = {"fingerprint": fingerprint, "written": written, "mean": mean, "std": std}
    (unfinished / "meta.json").write_text(json.dumps(meta))
    shutil.rmtree(entry, ignore_errors=True)
    unfinished.rename(entry)


def _stamp(file: Path) -> list[int]:
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _readable(folder: Path, files: list[_ImageFile]) -> list[_ImageFile]:
    """The files that can be read; the others are named."""
    readable = []
    for file in files:
        try:
            read_image(folder / file.path)
            readable.append(file)
        except InputError as error:
            print(f"left out: {error}")
    if not readable:
        raise InputError(f"none of the {len(files)} images in {folder} can be read")
    return readable


def _common_size(folder: Path, files: list[_ImageFile]) -> tuple[int, int]:
    sizes = set()
    for file in files:
        try:
            with Image.open(folder / file.path) as image:
                sizes.add((image.height, image.width))
        except (OSError, Image.DecompressionBombError):
            continue  # named when it is decoded
        if len(sizes) > 1:
            break
    if len(sizes) == 1 and max(next(iter(sizes))) <= _LARGEST_KEPT:
        return next(iter(sizes))
    height, width = _DEFAULT_SIZE
    print(f"The images in {folder} are resized to {height}x{width}; choose another size with --data.image_size")
    return _DEFAULT_SIZE
