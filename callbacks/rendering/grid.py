"""Captioned grids of images, enlarged so that a person can see their pixels."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from callbacks.rendering.text import BACKGROUND, FAINT_INK, FONT_SIZE, INK, LINE_HEIGHT, font, text_picture, truncate

GAP = 8  # pixels between tiles


def image_grid(
    pixels: np.ndarray,
    captions: Sequence[str],
    columns: int = 6,
    tile: int = 96,
    title: str = "",
    line_colors: Sequence[str] = (INK,),
) -> np.ndarray:
    """Images side by side, each enlarged by nearest neighbour, its caption below it.

    Args:
        pixels: uint8 (N, H, W, 3), RGB, or (N, H, W), grey.
        captions: N texts of one or more lines, each cut with an ellipsis where it is wider than an image.
        columns: Images in a row.
        tile: Width that an image is enlarged to, at most, by a whole factor; larger images are shown as they are.
        title: Lines above the images, the first in bold letters.
        line_colors: Colours of a caption's lines; the last one is that of further lines as well.

    Returns:
        uint8 (height, width, 3); for no images, a picture that says so.

    Raises:
        ValueError: if there are not as many captions as images.
    """
    if len(pixels) != len(captions):
        raise ValueError(f"every image needs a caption, got {len(pixels)} images and {len(captions)} captions")
    if len(pixels) == 0:
        return text_picture(title or "no images")
    tiles = enlarged(as_rgb(pixels), tile)
    tile_height, tile_width = tiles.shape[1:3]
    lines = max(caption.count("\n") + 1 for caption in captions)
    cell_height, cell_width = tile_height + lines * LINE_HEIGHT + 2 * GAP, tile_width + GAP
    columns = min(columns, len(pixels))
    rows = math.ceil(len(pixels) / columns)
    canvas, draw, top = titled_canvas(title, columns * cell_width + GAP, rows * cell_height + GAP)
    for place, (image, caption) in enumerate(zip(tiles, captions, strict=True)):
        x, y = GAP + place % columns * cell_width, top + GAP + place // columns * cell_height
        canvas.paste(Image.fromarray(image), (x, y))
        for number, line in enumerate(caption.split("\n")):
            color = line_colors[min(number, len(line_colors) - 1)]
            at = (x + tile_width / 2, y + tile_height + GAP / 2 + number * LINE_HEIGHT)
            draw.text(at, truncate(line, font(), tile_width), color, font(), anchor="ma")
    return np.asarray(canvas)


def as_rgb(pixels: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 3) of that, of (N, H, W, 1) or of (N, H, W)."""
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    return np.broadcast_to(pixels, (*pixels.shape[:3], 3))


def enlarged(pixels: np.ndarray, tile: int) -> np.ndarray:
    """Images (N, H, W, ...), enlarged by the largest whole factor that keeps them within ``tile`` pixels a side.

    >>> enlarged(np.array([[[1, 2]]]), 5).tolist()
    [[[1, 1, 2, 2], [1, 1, 2, 2]]]
    """
    scale = max(1, tile // max(pixels.shape[1:3]))
    return pixels.repeat(scale, 1).repeat(scale, 2)


def titled_canvas(title: str, width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw, int]:
    """A canvas with that room below a title of one or more lines, its drawing tool, and where the room begins.

    The canvas is as wide as the title needs.
    """
    lines = title.split("\n") if title else []
    fonts = [font(FONT_SIZE + 4, bold=True), *[font()] * len(lines)]
    needed = max((round(face.getlength(line)) for line, face in zip(lines, fonts, strict=False)), default=0)
    top = (GAP + 6 + len(lines) * LINE_HEIGHT) if lines else 0
    canvas = Image.new("RGB", (max(width, needed + 2 * GAP), top + height), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for number, (line, face) in enumerate(zip(lines, fonts, strict=False)):
        draw.text((GAP, GAP + number * (LINE_HEIGHT + 2)), line, FAINT_INK if number else INK, face)
    return canvas, draw, top
