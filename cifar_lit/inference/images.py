"""Find image files, and read them as RGB pixels."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from cifar_lit.errors import InputError

Fit = Literal["crop", "pad", "stretch"]
Interpolation = Literal["bilinear", "bicubic"]
# By PIL's names. HEIF, the format of iPhones, needs the package pillow-heif
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP")
_SYSTEM_FOLDERS = {"__macosx", "#recycle", "lost+found", "$recycle.bin", "system volume information"}
# Largest values of integer images with more than 8 bits: 8 and 12 bits are often stored in 16 or 32
_INTEGER_RANGES = (2**8 - 1, 2**12 - 1, 2**16 - 1)
_FLOAT_RANGES = (1, *_INTEGER_RANGES)


class Resizing(NamedTuple):
    """How images are resized, with antialiasing.

    size: Height and width.
    fit: How to fit other aspect ratios: ``crop``: scale to cover ``size`` and crop the center; ``pad``: scale to fit
        inside and add gray bars; ``stretch``: change the aspect ratio.
    interpolation: The filter.
    """

    size: tuple[int, int]
    fit: Fit = "crop"
    interpolation: Interpolation = "bilinear"

    def apply(self, image: Image.Image) -> Image.Image:
        """Return the image, resized."""
        target, resample = (self.size[1], self.size[0]), Image.Resampling[self.interpolation.upper()]
        if image.size == target:
            return image
        if self.fit == "crop":
            return ImageOps.fit(image, target, resample)
        if self.fit == "pad":
            return ImageOps.pad(image, target, resample, color="#808080")
        return image.resize(target, resample)


class ImageTooLargeError(InputError):
    """An image has more pixels than allowed."""


@cache
def readable_formats() -> tuple[str, ...]:
    """Return those of ``FORMATS`` that this installation of PIL can read."""
    with suppress(ImportError):
        from pillow_heif import register_heif_opener  # type: ignore[import-not-found]

        register_heif_opener()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def image_suffixes() -> frozenset[str]:
    """Return the suffixes, in lower case, of the image files that can be read."""
    formats = readable_formats()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


def image_files(folder: Path, left_out: Counter[str] | None = None) -> Iterator[Path]:
    """Yield the image files below a folder at any depth, by suffix, without hidden and system folders and files.

    Args:
        folder: The folder.
        left_out: Counts what is left out: files by suffix, and folders by name. Hidden files are not counted.
    """
    yield from _scan(folder, Counter() if left_out is None else left_out, frozenset())


def _scan(folder: Path, left_out: Counter[str], parents: frozenset[tuple[int, int]]) -> Iterator[Path]:
    try:
        status = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda one: one.name)
    except OSError as error:
        if not parents:
            raise InputError(f"{folder} cannot be read ({error.strerror})") from error
        left_out[f"{folder.name}/"] += 1
        return
    identity = status.st_dev, status.st_ino
    if identity in parents:  # a link leads back
        left_out[f"{folder.name}/"] += 1
        return
    for entry in entries:
        path, suffix = folder / entry.name, Path(entry.name).suffix.lower()
        if entry.is_dir():
            if is_system_folder(entry.name):
                left_out[f"{entry.name}/"] += 1
            else:
                yield from _scan(path, left_out, parents | {identity})
        elif entry.name.startswith("."):
            continue
        elif suffix in image_suffixes():
            yield path
        else:
            left_out[suffix or "without suffix"] += 1


def is_system_folder(name: str) -> bool:
    """Return whether a folder is hidden or belongs to an operating or storage system, such as ``@eaDir``.

    >>> [is_system_folder(name) for name in (".git", "@eaDir", "__MACOSX", "cats")]
    [True, True, True, False]
    """
    return name.startswith((".", "@")) or name.lower() in _SYSTEM_FOLDERS


def describe_left_out(folder: Path, left_out: Counter[str]) -> str:
    """Return a sentence about the files and folders that ``image_files`` left out.

    >>> print(describe_left_out(Path("photos"), Counter({".heic": 12, ".txt": 1, "@eaDir/": 2})))
    13 files left out of photos: .heic 12, .txt 1; folders: @eaDir/ 2 (to read .heic: pip install pillow-heif)
    """
    files = {name: count for name, count in left_out.most_common() if not name.endswith("/")}
    folders = {name: count for name, count in left_out.most_common() if name.endswith("/")}
    number = sum(files.values())
    parts = []
    if files:
        parts.append(f"{number:,} file{'s' * (number != 1)} left out of {folder}: {_counts(files)}")
    if folders:
        parts.append(f"folders: {_counts(folders)}" if files else f"left out of {folder}: {_counts(folders)}")
    if heif := files.keys() & {".heic", ".heif"}:
        parts[-1] += f" (to read {' and '.join(sorted(heif))}: pip install pillow-heif)"
    return "; ".join(parts)


def _counts(numbers: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in numbers.items())


def read_image(path: Path, resizing: Resizing | None = None) -> np.ndarray:
    """Return the pixels of an image file, uint8 (H, W, 3), RGB, by default in its own size.

    The EXIF orientation is applied, 16-bit values are scaled to 8 bits, transparency is composited on white, and
    only the first frame of an animation is read.

    Raises:
        InputError: if the file is not an image, is truncated, or is too large.
    """
    if resizing is None:
        return np.asarray(decode_image(path))
    return np.asarray(resizing.apply(decode_image(path, resizing.size)))


def decode_image(
    path: Path,
    size: tuple[int, int] | None = None,
    max_pixels: int | None = None,
) -> Image.Image:
    """Return the image of a file in RGB, upright and in its own size; see ``read_image``.

    Args:
        path: The file.
        size: Height and width that the caller will resize to, so that a large JPEG is decoded at reduced size.
        max_pixels: Maximum number of pixels to decode, after the reduction; PIL's own limit by default.

    Raises:
        ImageTooLargeError: if it has more pixels.
        InputError: if the file is not an image, or is truncated.
    """
    try:
        with Image.open(path, formats=readable_formats()) as image:
            megapixels = image.width * image.height / 1e6
            if size is not None:  # no effect on formats other than JPEG
                image.draft("RGB", (2 * size[1], 2 * size[0]))
            if max_pixels is not None and image.width * image.height > max_pixels:
                raise ImageTooLargeError(f"{path} has {megapixels:.0f} megapixels; the limit is {max_pixels / 1e6:.0f}")
            converted = to_rgb(image)
            ImageOps.exif_transpose(converted, in_place=True)
            return converted
    except (MemoryError, ImageTooLargeError):
        raise
    except Exception as error:  # PIL's decoders raise exceptions of any type
        reason = str(error).replace(f" {str(path)!r}", "").replace(f" '{path}'", "")
        raise InputError(f"{path} cannot be read as an image ({reason})") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image in mode RGB, with its EXIF data.

    ======================  =======================================================================================
    mode                    conversion
    ======================  =======================================================================================
    1, L, P, RGB, YCbCr     PIL's own
    CMYK, HSV               PIL's own
    LA, PA, RGBA, with      composited on white
    transparency
    I;16, I                 scaled from [0, m] to [0, 255], where m is the smallest of 255, 4095 and 65535 that is not
                            less than the image's largest value: files do not say how many of their bits are used
    F                       the same, where m may also be 1
    others                  refused
    ======================  =======================================================================================

    Raises:
        ValueError: If the values are negative, larger than 65535 or NaN, or the mode is another one. PIL reads only
            the upper byte of colors with 16 bits, so they are refused if the upper byte has fewer than 4 bits.
    """
    upper_byte = image.mode in ("RGB", "RGBA") and any(";16" in str(tile) for tile in getattr(image, "tile", ()))
    exif = image.getexif()  # may load the image, which empties ``tile``
    if upper_byte and 0 < np.asarray(image)[..., :3].max() < 16:
        raise ValueError("its 16-bit colors are all below 4096, of which too little is read; save it with 8 bits")
    if image.mode.startswith(("I", "F")):
        image = _scale_to_8_bits(image)
    elif image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        image = white
    converted = image if image.mode == "RGB" else image.convert("RGB")
    converted.getexif().update(exif)
    return converted


def _scale_to_8_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float32)
    low, high = values.min(), values.max()
    ranges = _FLOAT_RANGES if image.mode == "F" else _INTEGER_RANGES
    if not 0 <= low <= high <= ranges[-1]:  # or NaN
        raise ValueError(f"its values go from {low:g} to {high:g}; scale them to 0 to 255")
    full = next(value for value in ranges if high <= value)
    return Image.fromarray((values * (255 / full)).round().astype(np.uint8))
