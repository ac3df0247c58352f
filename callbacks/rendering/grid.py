"""Captioned grids of images, enlarged so that their pixels are visible."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from callbacks.rendering.fonts_and_colors import (
    BACKGROUND,
    DARK,
    FAINT_INK,
    FONT_SIZE,
    INK,
    LIGHT,
    LINE_HEIGHT,
    drawable,
)

GAP = 8  # pixels between tiles


def image_grid(
    pixels: np.ndarray,
    captions: Sequence[str],
    columns: int = 6,
    tile: int = 96,
    title: str = "",
    line_colors: Sequence[str] = (INK,),
    dark: bool = False,
) -> np.ndarray:
    """Return a grid of images, each enlarged by nearest neighbor, with its caption below.

    Args:
        pixels: uint8 (N, H, W, 3).
        captions: N texts of one or more lines; see ``drawable`` for lines wider than an image.
        columns: Maximum number of images per row.
        tile: Maximum side of an enlarged image; the scale is an integer, and larger images are not resized.
        title: Lines above the images, the first in bold.
        line_colors: Colors of a caption's lines; further lines have the last color.
        dark: Whether to draw for a dark page, in the colors of ``DARK``.

    Returns:
        uint8 (height, width, 3), or 4 channels with a transparent background if dark; without images, a picture of the
        title or "no images".

    Raises:
        ValueError: if the number of captions differs from that of images.
    """
    if len(pixels) != len(captions):
        raise ValueError(f"every image needs a caption, got {len(pixels)} images and {len(captions)} captions")
    if len(pixels) == 0:
        return np.asarray(titled_canvas(title or "no images", 320, GAP, dark)[0])
    tiles = enlarge_images(pixels, tile)
    tile_height, tile_width = tiles.shape[1:3]
    lines = max(caption.count("\n") + 1 for caption in captions)
    cell_height, cell_width = tile_height + lines * LINE_HEIGHT + 2 * GAP, tile_width + GAP
    columns = min(columns, len(pixels))
    rows = math.ceil(len(pixels) / columns)
    canvas, draw, top = titled_canvas(title, columns * cell_width + GAP, rows * cell_height + GAP, dark)
    for index, (image, caption) in enumerate(zip(tiles, captions, strict=True)):
        x, y = GAP + index % columns * cell_width, top + GAP + index // columns * cell_height
        canvas.paste(Image.fromarray(image), (x, y))
        for number, line in enumerate(caption.split("\n")):
            color = (DARK if dark else LIGHT)[line_colors[min(number, len(line_colors) - 1)]]
            anchor = (x + tile_width / 2, y + tile_height + GAP / 2 + number * LINE_HEIGHT)
            text, face = drawable(line, width=tile_width)
            draw.text(anchor, text, color, face, anchor="ma")
    return np.asarray(canvas)


def enlarge_images(pixels: np.ndarray, tile: int) -> np.ndarray:
    """Return images (N, H, W, ...), enlarged by the largest integer factor that fits into ``tile`` pixels.

    >>> enlarge_images(np.array([[[1, 2]]]), 5).tolist()
    [[[1, 1, 2, 2], [1, 1, 2, 2]]]
    """
    scale = max(1, tile // max(pixels.shape[1:3]))
    return pixels.repeat(scale, 1).repeat(scale, 2)


def titled_canvas(
    title: str, width: int, height: int, dark: bool = False
) -> tuple[Image.Image, ImageDraw.ImageDraw, int]:
    """Return a canvas with a title above an area of the given size, its drawing tool, and the area's top.

    The canvas is widened if the title needs it.
    """
    title_lines = enumerate(title.split("\n") if title else [])
    lines = [drawable(line) if number else drawable(line, FONT_SIZE + 4, bold=True) for number, line in title_lines]
    title_width = max((round(face.getlength(line)) for line, face in lines), default=0)
    top = (GAP + 6 + len(lines) * LINE_HEIGHT) if lines else 0
    size, colors = (max(width, title_width + 2 * GAP), top + height), DARK if dark else LIGHT
    canvas = Image.new("RGBA" if dark else "RGB", size, colors[BACKGROUND])
    draw = ImageDraw.Draw(canvas)
    for number, (line, face) in enumerate(lines):
        draw.text((GAP, GAP + number * (LINE_HEIGHT + 2)), line, colors[FAINT_INK if number else INK], face)
    return canvas, draw, top
