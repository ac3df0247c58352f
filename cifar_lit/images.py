"""Reading image files from anywhere into the pixels that a network sees."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cifar_lit.errors import InputError

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def image_files(folder: Path) -> Iterator[Path]:
    """The image files below a folder at any depth, by their suffix, sorted; hidden files and folders are left out."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            yield path


def read_image(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Pixels of an image file as a person sees it.

    Turned upright by its EXIF orientation, 16-bit values scaled to 8 bits, transparency laid over white, the first
    frame of an animation. An image of another size is scaled, with antialiasing, until it covers ``size``, and cut at
    its centre.

    Args:
        path: The file.
        size: Height and width; None keeps the image's own.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        InputError: if the file is not an image, is truncated, or is too large to be trusted.
    """
    try:
        with Image.open(path) as image:
            if size is not None:  # decodes a large JPEG at a fraction of its size; does nothing to other formats
                image.draft("RGB", (2 * size[1], 2 * size[0]))
            upright = ImageOps.exif_transpose(to_rgb(image))
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        reason = str(error).replace(repr(str(path)), "it").replace(f"'{path}'", "it")
        raise InputError(
            f"{path} cannot be read as an image ({reason}): replace or remove it, or set skip_unreadable"
        ) from error
    if size is not None and upright.size != (size[1], size[0]):
        upright = ImageOps.fit(upright, (size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(upright)


def to_rgb(image: Image.Image) -> Image.Image:
    """The image in mode RGB, its EXIF data kept."""
    exif = image.getexif()
    if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip at 255
        image = Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    converted = image.convert("RGB")
    converted.getexif().update(exif)
    return converted
