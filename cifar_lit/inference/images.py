"""Read image files as RGB pixels."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from cifar_lit.errors import InputError

Fit = Literal["crop", "pad", "inside"]
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


class ImageTooLargeError(InputError):
    """An image has more pixels than allowed."""


def image_files(folder: Path) -> Iterator[Path]:
    """Yield the image files below a folder at any depth, by suffix, sorted, without hidden files and folders."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            yield path


def read_image(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Return the pixels of an image file, uint8 (H, W, 3), RGB, scaled and center-cropped to a height and width.

    The EXIF orientation is applied, 16-bit values are scaled to 8 bits, transparency is composited on white, and
    only the first frame of an animation is read.

    Raises:
        InputError: if the file is not an image, is truncated, or is too large.
    """
    image = decode_image(path, size)
    return np.asarray(image if size is None else resize_to_fit(image, size, "crop"))


def decode_image(
    path: Path,
    size: tuple[int, int] | None = None,
    formats: tuple[str, ...] | None = None,
    max_pixels: int | None = None,
) -> Image.Image:
    """Return the image of a file in RGB, upright and in its own size; see ``read_image``.

    Args:
        path: The file.
        size: Height and width that the caller will resize to, so that a large JPEG is decoded at reduced size.
        formats: The formats to try, by PIL's names; all by default.
        max_pixels: Maximum number of pixels to decode, after the reduction; PIL's own limit by default.

    Raises:
        ImageTooLargeError: if it has more pixels.
        InputError: if the file is not an image of these formats, or is truncated.
    """
    try:
        with Image.open(path, formats=formats) as image:
            megapixels = image.width * image.height / 1e6
            if size is not None:  # no effect on formats other than JPEG
                image.draft("RGB", (2 * size[1], 2 * size[0]))
            if max_pixels is not None and image.width * image.height > max_pixels:
                raise ImageTooLargeError(f"{path} has {megapixels:.0f} megapixels; the limit is {max_pixels / 1e6:.0f}")
            return ImageOps.exif_transpose(to_rgb(image))
    except (MemoryError, ImageTooLargeError):
        raise
    except Exception as error:  # PIL's decoders raise exceptions of any type
        reason = str(error).replace(f" {str(path)!r}", "").replace(f" '{path}'", "")
        raise InputError(f"{path} cannot be read as an image ({reason})") from error


def resize_to_fit(image: Image.Image, size: tuple[int, int], fit: Fit) -> Image.Image:
    """Return the image resized to a height and width, with antialiasing.

    Args:
        image: The image.
        size: Height and width.
        fit: How to fit other aspect ratios: ``crop``: scale to cover ``size`` and crop the center; ``pad``: scale to
            fit inside and add gray bars; ``inside``: scale down to fit inside.
    """
    target = (size[1], size[0])
    if image.size == target:
        return image
    if fit == "crop":
        return ImageOps.fit(image, target, Image.Resampling.BILINEAR)
    if fit == "pad":
        return ImageOps.pad(image, target, Image.Resampling.BILINEAR, color="#808080")
    smaller = image.copy()
    smaller.thumbnail(target, Image.Resampling.BILINEAR)
    return smaller


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image in mode RGB, with its EXIF data."""
    exif = image.getexif()
    if image.mode.startswith("I"):  # 16-bit gray, which convert() would clip at 255
        image = Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).astype(np.uint8))
    elif image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        image = white
    converted = image if image.mode == "RGB" else image.convert("RGB")
    converted.getexif().update(exif)
    return converted
