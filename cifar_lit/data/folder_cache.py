"""Cache of decoded image folders: memory-mapped pixels on disk, reused while the folder is unchanged."""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from filelock import FileLock
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from cifar_lit.data.batches import ImageTensors
from cifar_lit.data.statistics import mean_and_std
from cifar_lit.errors import InputError
from cifar_lit.inference.images import (
    Fit,
    Interpolation,
    Resizing,
    describe_left_out,
    image_files,
    is_system_folder,
    read_image,
)
from cifar_lit.progress import with_progress
from cifar_lit.safe_files import reserve

_FORMAT = 3  # increment when the content of an entry changes
_MAX_KEPT_SIZE = 128  # images that all have one size of up to this many pixels a side are not resized
_DEFAULT_SIZE = (64, 64)  # for all others
_SKIP_OPTION = "--data.skip_unreadable true"
_MAX_NAMED = 10  # unreadable files listed in an error


@dataclass(frozen=True)
class FolderImages:
    """The decoded images of one split, with their size, mean and standard deviation."""

    images: ImageTensors
    image_size: tuple[int, int]
    mean: list[float]
    std: list[float]


class ImageFile(NamedTuple):
    """A file, relative to its split's folder, with its label and state."""

    path: str
    label: int
    # From stat; ctime cannot be set back, so a file modified in place is noticed
    size: int
    mtime_ns: int
    ctime_ns: int


def decode_folder(
    folder: Path,
    class_names: Sequence[str],
    cache_dir: Path,
    *,
    size: tuple[int, int] | None = None,
    fit: Fit = "crop",
    interpolation: Interpolation = "bilinear",
    skip_unreadable: bool = False,
    listed: Sequence[tuple[str, str]] | None = None,
    cache_key: str = "",
) -> FolderImages:
    """Return the images of ``folder/<class>/``, from the cache if the folder has not changed since it was decoded.

    Args:
        folder: Contains one folder of images per class.
        class_names: The classes, in label order; a class may be missing from ``folder``.
        cache_dir: Where decoded images are cached, one entry per folder.
        size: Height and width to resize to; None keeps images that all have one size of up to 128 pixels, and resizes
            others to 64.
        fit, interpolation: How to resize; see ``Resizing``.
        skip_unreadable: Whether to skip files that cannot be read.
        listed: Files, relative to ``folder``, with their classes, in place of those in the folders of the classes.
        cache_key: Distinguishes several lists of files in one folder.

    Raises:
        InputError: If there are no images, one cannot be read, or the cache cannot be written.
    """
    files = list_files(folder, class_names, listed)
    request = [_FORMAT, list(class_names), size, fit, interpolation, skip_unreadable, files]
    fingerprint = hashlib.blake2b(json.dumps(request).encode()).hexdigest()
    # Defaults are left out, so that entries of early releases are replaced
    options = [*[fit] * (fit != "crop"), *[interpolation] * (interpolation != "bilinear")]
    identity = [str(folder.resolve()), size, *options, *[cache_key] * bool(cache_key)]
    name = hashlib.blake2b(json.dumps(identity).encode(), digest_size=8).hexdigest()
    entry = cache_dir / name
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(cache_dir / f"{name}.lock"):  # one process decodes, the others wait and read
            found = _read(entry, fingerprint)
            if found is None:
                with _new_entry(entry) as unfinished:
                    common_size = size or _common_size(folder, files)
                    resizing = Resizing(common_size or _DEFAULT_SIZE, fit, interpolation)
                    _write(unfinished, fingerprint, folder, files, resizing, skip_unreadable)
                    if common_size is None:
                        shown = "x".join(map(str, _DEFAULT_SIZE))
                        print(f"Resized the images in {folder} to {shown}; choose another size with --data.image_size")
                found = _read(entry, fingerprint)
    except OSError as error:
        raise InputError(
            f"the decoded images of {folder} cannot be cached in {cache_dir} ({error});"
            " choose a writable folder with enough space: --data.cache_dir DIR"
        ) from error
    assert found is not None
    return found


def list_files(
    folder: Path, class_names: Sequence[str], listed: Sequence[tuple[str, str]] | None = None
) -> list[ImageFile]:
    """Return the image files of ``folder/<class>/``, or the listed ones, unread; print what is left out.

    Args:
        folder: Contains one folder of images per class.
        class_names: The classes, in label order.
        listed: See ``decode_folder``.

    Raises:
        InputError: If there are none, or a listed one does not exist.
    """
    left_out = Counter[str]()
    if listed is None:
        files = list(_scan(folder, class_names, left_out))
    else:
        labels = {name: label for label, name in enumerate(class_names)}
        files = [_image_file(folder / name, labels[label], name) for name, label in listed]
    note = describe_left_out(folder, left_out)
    if not files:
        raise InputError(f"{folder} contains no images in folders named by class" + (f" ({note})" if note else ""))
    if note:
        rank_zero_only(print)(note)
    return files


def _scan(folder: Path, class_names: Sequence[str], left_out: Counter[str]) -> Iterator[ImageFile]:
    for path in folder.iterdir():
        if path.is_dir() and is_system_folder(path.name):
            left_out[f"{path.name}/"] += 1
        elif path.is_file() and not path.name.startswith("."):
            left_out["in no class folder"] += 1
    for label, class_name in enumerate(class_names):
        if not (folder / class_name).is_dir():
            continue
        for path in sorted(image_files(folder / class_name, left_out), key=str):
            yield _image_file(path, label, path.relative_to(folder).as_posix())


def _image_file(path: Path, label: int, name: str) -> ImageFile:
    try:
        stat = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): remove it") from error
    return ImageFile(name, label, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _read(entry: Path, fingerprint: str) -> FolderImages | None:
    """Return the cache entry; None if it is missing, outdated or damaged."""
    try:
        meta = json.loads((entry / "meta.json").read_text())
        if meta["fingerprint"] != fingerprint:
            return None
        # Copy-on-write, since torch warns about read-only memory
        labels = torch.from_numpy(np.load(entry / "labels.npy"))
        pixels = torch.from_numpy(np.load(entry / "pixels.npy", mmap_mode="c")[: len(labels)])
        files = json.loads((entry / "files.json").read_text())
    except (FileNotFoundError, EOFError, ValueError, KeyError, TypeError):
        return None
    height, width = pixels.shape[-2:]
    return FolderImages(ImageTensors(pixels, labels, files), (height, width), meta["mean"], meta["std"])


@contextmanager
def _new_entry(entry: Path) -> Iterator[Path]:
    """Yield a folder to write the entry to; it replaces the old entry when it is complete, and is removed otherwise."""
    unfinished = entry.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        yield unfinished
        shutil.rmtree(entry, ignore_errors=True)
        unfinished.rename(entry)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(
    unfinished: Path, fingerprint: str, folder: Path, files: list[ImageFile], resizing: Resizing, skip_unreadable: bool
) -> None:
    """Decode the files into a new entry."""
    pixels = np.lib.format.open_memmap(
        unfinished / "pixels.npy", mode="w+", dtype=np.uint8, shape=(len(files), 3, *resizing.size)
    )
    reserve(unfinished / "pixels.npy")

    def decode(row: int) -> InputError | None:
        """Return the error, if any, instead of raising it, so that all unreadable files are reported at once."""
        try:
            pixels[row] = read_image(folder / files[row].path, resizing).transpose(2, 0, 1)
        except InputError as error:
            return error
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoding = with_progress(pool.map(decode, range(len(files))), f"Decoding {folder}", len(files))
        errors = {file.path: error for file, error in zip(files, decoding, strict=True) if error is not None}
    if errors and skip_unreadable:
        print(*(f"skipped: {error}" for error in errors.values()), sep="\n")
        kept = [row for row, file in enumerate(files) if file.path not in errors]
        if not kept:
            raise InputError(f"none of the {len(files)} images in {folder} can be read")
        for position, row in enumerate(kept):
            pixels[position] = pixels[row]
        files = [files[row] for row in kept]
    elif len(errors) == 1:
        raise InputError(f"{next(iter(errors.values()))}: replace or remove it, or skip it: {_SKIP_OPTION}")
    elif errors:
        more = f" and {len(errors) - _MAX_NAMED} more" if len(errors) > _MAX_NAMED else ""
        raise InputError(
            f"{len(errors)} files in {folder} cannot be read as images: {', '.join(list(errors)[:_MAX_NAMED])}{more};"
            f" replace or remove them, or skip them: {_SKIP_OPTION}"
        )
    pixels.flush()
    np.save(unfinished / "labels.npy", np.array([file.label for file in files], dtype=np.int64))
    (unfinished / "files.json").write_text(json.dumps([file.path for file in files]))
    mean, std = mean_and_std(torch.from_numpy(pixels[: len(files)]))
    meta = {"fingerprint": fingerprint, "mean": mean, "std": std}
    (unfinished / "meta.json").write_text(json.dumps(meta))


def _common_size(folder: Path, files: list[ImageFile]) -> tuple[int, int] | None:
    """Return the height and width of all readable images; None if they differ or are large."""
    sizes = set()
    for file in files:
        try:
            with Image.open(folder / file.path) as image:
                sizes.add((image.height, image.width))
        except (OSError, Image.DecompressionBombError):
            continue  # reported when it is decoded
        if len(sizes) > 1:
            break
    if len(sizes) == 1 and max(next(iter(sizes))) <= _MAX_KEPT_SIZE:
        return next(iter(sizes))
    return None
