"""Reading image files from anywhere into the pixels that a network sees."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from cifar_lit.errors import InputError

Fit = Literal["crop", "pad", "inside"]
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def image_files(folder: Path) -> Iterator[Path]:
    """The image files below a folder at any depth, by their suffix, sorted; hidden files and folders are left out."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            yield path


def read_image(
    path: Path,
    size: tuple[int, int] | None = None,
    fit: Fit = "crop",
    formats: tuple[str, ...] | None = None,
    most_pixels: int | None = None,
) -> np.ndarray:
    """Pixels of an image file as a person sees it.

    Turned upright by its EXIF orientation, 16-bit values scaled to 8 bits, transparency laid over white, the first
    frame of an animation.

    Args:
        path: The file.
        size: Height and width to scale an image of another size to, with antialiasing; None keeps the image's own.
        fit: How an image of other proportions is made to fit: ``crop``: scaled until it covers ``size`` and cut at its
            centre; ``pad``: scaled until it fits inside, between grey bars; ``inside``: the same without bars, and a
            smaller image is kept as it is.
        formats: The formats to try, by PIL's names; by default all that PIL knows.
        most_pixels: The largest number of pixels to decode; by default PIL's own limit.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        InputError: if the file is not an image of these formats, is truncated, or is too large.
    """
    upright = decoded(path, size, formats, most_pixels)
    return np.asarray(upright if size is None else fitted(upright, size, fit))


def decoded(
    path: Path,
    size: tuple[int, int] | None = None,
    formats: tuple[str, ...] | None = None,
    most_pixels: int | None = None,
) -> Image.Image:
    """The image in a file as a person sees it, RGB, in its own size; see ``read_image``.

    Args:
        path: The file.
        size: Height and width that it will be scaled to: a large JPEG is decoded at a fraction of its own, then.
        formats: The formats to try, by PIL's names; by default all that PIL knows.
        most_pixels: The largest number of pixels to decode; by default PIL's own limit.

    Raises:
        InputError: if the file is not an image of these formats, is truncated, or is too large.
    """
    try:
        with Image.open(path, formats=formats) as image:
            if most_pixels is not None and image.width * image.height > most_pixels:
                raise ValueError(f"{image.width} x {image.height} pixels are more than {most_pixels / 1e6:.0f} million")
            if size is not None:  # does nothing to other formats
                image.draft("RGB", (2 * size[1], 2 * size[0]))
            return ImageOps.exif_transpose(to_rgb(image))
    except MemoryError:
        raise
    except Exception as error:  # PIL's decoders raise whatever they stumble over
        reason = str(error).replace(f" {str(path)!r}", "").replace(f" '{path}'", "")
        raise InputError(f"{path} cannot be read as an image ({reason})") from error


def fitted(image: Image.Image, size: tuple[int, int], fit: Fit) -> Image.Image:
    """The image in another size, height and width; see ``read_image``."""
    return image if image.size == (size[1], size[0]) else _FITS[fit](image, (size[1], size[0]))


def _cropped(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return ImageOps.fit(image, size, Image.Resampling.BILINEAR)


def _padded(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return ImageOps.pad(image, size, Image.Resampling.BILINEAR, color="#808080")


def _inside(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    smaller = image.copy()
    smaller.thumbnail(size, Image.Resampling.BILINEAR)
    return smaller


_FITS: dict[Fit, Callable[[Image.Image, tuple[int, int]], Image.Image]] = {
    "crop": _cropped,
    "pad": _padded,
    "inside": _inside,
}


def to_rgb(image: Image.Image) -> Image.Image:
    """The image in mode RGB, its EXIF data kept."""
    exif = image.getexif()
    if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip at 255
        image = Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).astype(np.uint8))
    elif image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        image = white
    converted = image if image.mode == "RGB" else image.convert("RGB")
    converted.getexif().update(exif)
    return converted
