"""Read and measure the images of a data module: its files if it has any, otherwise its pixels."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cifar_lit.data.batches import ImageDataset, ImageTensors
from cifar_lit.data.datamodule import ImageDataModule, Split
from cifar_lit.data.folder_cache import ImageFile
from cifar_lit.data.folders import ClassFolders
from cifar_lit.errors import InputError
from cifar_lit.evaluation.duplicates import small_images
from cifar_lit.evaluation.image_quality import QUALITY_SIDE, QualityThresholds, find_faults, image_quality
from cifar_lit.inference.images import Resizing, decode_image, readable_formats
from cifar_lit.progress import with_progress
from space.export.run_datasets import splits_of

_SAME_FORMAT = {"MPO": "JPEG", "DIB": "BMP"}  # phones write MPO, a JPEG with several pictures, as .jpg
_BATCH = 1024
_Size = tuple[int, int]


class Measured(NamedTuple):
    """What is kept of an image.

    faults: Its faults, each with its measurement.
    small: Itself in gray and in color, see ``small_images``.
    digest: Equal for identical images.
    """

    faults: list[tuple[str, str]]
    small: tuple[np.ndarray, np.ndarray]
    digest: bytes


@dataclass(frozen=True)
class AuditedImage:
    """A readable image, and where it is.

    split, index, file, label: Its split, its row there, its path (empty if it is not a file) and the name of its class.
    read: Returns the image, in at least the given height and width if it is larger.
    """

    split: str
    index: int
    file: str
    label: str
    measured: Measured
    read: Callable[[_Size | None], Image.Image]

    @property
    def place(self) -> tuple[str, str, str, str]:
        """Its split, index, file and class."""
        return self.split, str(self.index), self.file, self.label


class Issue(NamedTuple):
    """An issue of an image.

    kind, detail: What it is, and its measurement.
    place: Split, index, file and class of the image; the index is empty if the file cannot be read.
    image: The image, unless it cannot be read.
    other: The image that it duplicates, if any; in an earlier split, or before it in its own.
    """

    kind: str
    detail: str
    place: tuple[str, str, str, str]
    image: AuditedImage | None = None
    other: AuditedImage | None = None

    @property
    def text(self) -> str:
        """The image, the image that it duplicates, and the detail on one line."""
        places = [self.place, *([self.other.place] if self.other else [])]
        return f"{' = '.join(file or f'{split} #{index}' for split, index, file, _ in places)}: {self.detail}"

    @property
    def has_other_class(self) -> bool:
        """Whether the image duplicates one of another class."""
        return self.other is not None and self.other.label != self.place[-1]


@dataclass
class AuditedData:
    """The images of a data module, those of train before those of val and test.

    unreadable: Split, file, class and reason of each unreadable file; the split is that of its folder.
    note: Why files are not divided into splits; usually empty.
    """

    images: list[AuditedImage] = field(default_factory=list)
    unreadable: list[tuple[str, str, str, str]] = field(default_factory=list)
    note: str = ""


def audit_data(data: ImageDataModule, limits: QualityThresholds) -> AuditedData:
    """Read and measure all images of a data module.

    Raises:
        InputError: if there are none.
    """
    audited = _audit_files(data, limits) if isinstance(data, ClassFolders) else _audit_pixels(data, limits)
    if not audited.images and not audited.unreadable:
        raise InputError("the data has no images; choose other data with --data.root")
    return audited


def resized_batches(images: Sequence[AuditedImage], resizing: Resizing) -> Iterator[Tensor]:
    """Yield the images in batches, uint8 (n, 3, H, W), resized."""
    for start in range(0, len(images), _BATCH):
        crops = [np.asarray(resizing.apply(one.read(resizing.size))) for one in images[start : start + _BATCH]]
        yield torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)


def _audit_pixels(data: ImageDataModule, limits: QualityThresholds) -> AuditedData:
    audited, names = AuditedData(), data.class_names
    for split, dataset in splits_of(data).items():
        source = dataset.images
        batches = dataset.rows.split(_BATCH)
        for rows in with_progress(batches, f"Measuring {split} images"):
            pixels = source.pixels[rows]
            for row, label, measured in zip(
                rows.tolist(), source.labels[rows].tolist(), measure_pixels(pixels, limits), strict=True
            ):
                file = source.files[row] if source.files else ""

                def read(size: _Size | None, pixels: Tensor = source.pixels[row]) -> Image.Image:
                    return Image.fromarray(pixels.permute(1, 2, 0).numpy())

                audited.images.append(AuditedImage(split, row, file, names[label], measured, read))
    return audited


def measure_pixels(pixels: Tensor, limits: QualityThresholds) -> list[Measured]:
    """Measure images uint8 (N, 3, H, W)."""
    height, width = pixels.shape[-2:]
    quality = zip(*(values.tolist() for values in image_quality(pixels)), strict=True)
    arrays: np.ndarray = pixels.permute(0, 2, 3, 1).numpy()
    return [
        Measured(
            find_faults((width, height), one, limits), small_images(Image.fromarray(array)), _digest(array.tobytes())
        )
        for one, array in zip(quality, arrays, strict=True)
    ]


def _audit_files(data: ClassFolders, limits: QualityThresholds) -> AuditedData:
    audited, names = AuditedData(), data.class_names
    measured: dict[Path, Measured] = {}
    readable: dict[Split, ImageTensors] = {}
    files = data.files()
    sizes = Counter(file.size for split in files.values() for file in split)

    def measure(path: Path, file: ImageFile) -> Measured | InputError:
        try:
            return measure_file(path, limits, is_size_unique=sizes[file.size] == 1)
        except InputError as error:
            return error

    for split, listed in files.items():
        paths = [data.folder(split) / file.path for file in listed]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            results = list(with_progress(pool.map(measure, paths, listed), f"Reading {split} images", len(paths)))
        kept = []
        for path, file, result in zip(paths, listed, results, strict=True):
            if isinstance(result, InputError):
                audited.unreadable.append((split, file.path, names[file.label], str(result).removeprefix(f"{path} ")))
            else:
                measured[path] = result
                kept.append(file)
        labels = torch.tensor([file.label for file in kept], dtype=torch.int64)
        pixels = torch.empty(len(kept), 3, 0, 0, dtype=torch.uint8)
        readable[split] = ImageTensors(pixels, labels, [file.path for file in kept])
    data.undecoded = readable
    try:
        splits = splits_of(data)
    except InputError as error:  # such as too few images of a class
        audited.note = f"the files are not divided into splits: {error}"
        splits = {split: ImageDataset(images, torch.arange(len(images))) for split, images in readable.items()}
    for split, dataset in splits.items():
        for row, label in zip(dataset.rows.tolist(), dataset.labels.tolist(), strict=True):
            file = dataset.files[row]
            path = data.folder(split) / file
            read = partial(decode_image, path)
            audited.images.append(AuditedImage(split, row, file, names[label], measured[path], read))
    return audited


def measure_file(path: Path, limits: QualityThresholds, is_size_unique: bool = False) -> Measured:
    """Measure an image file.

    Args:
        path: The file.
        limits: Limits beyond which it has a fault.
        is_size_unique: Whether no other file has as many bytes, so that none is identical.

    Raises:
        InputError: if it is not an image, or truncated.
    """
    image = decode_image(path, (QUALITY_SIDE, QUALITY_SIDE))  # a large JPEG is decoded in a smaller size
    with Image.open(path, formats=readable_formats()) as opened:  # reads the header only
        size, found = opened.size, str(opened.format)
    inside = image.copy()
    inside.thumbnail((QUALITY_SIDE, QUALITY_SIDE), Image.Resampling.BILINEAR)
    quality = image_quality(torch.from_numpy(np.array(inside)).permute(2, 0, 1)[None])
    brightness, contrast, sharpness = (float(values) for values in quality)
    faults = find_faults(size, (brightness, contrast, sharpness), limits)
    expected = Image.registered_extensions().get(path.suffix.lower(), found)
    if _SAME_FORMAT.get(found, found) != _SAME_FORMAT.get(expected, expected):
        faults.append(("wrong suffix", f"{path.suffix}, but the file is {found}"))
    digest = str(path).encode(errors="surrogateescape") if is_size_unique else _digest(path.read_bytes())
    return Measured(faults, small_images(image), digest)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
