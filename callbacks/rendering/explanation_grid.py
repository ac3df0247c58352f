"""Grid of images with their heatmaps, alone and overlaid on the image, and a legend."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from callbacks.rendering.grid import GAP, as_rgb, enlarge_images, titled_canvas
from callbacks.rendering.overlay import ColorMap, colorize, overlay
from callbacks.rendering.text import FAINT_INK, FONT_SIZE, INK, LINE_HEIGHT, font, text_picture, truncate

_SMALL = FONT_SIZE - 3  # so that a layer's name fits above two tiles
_LINE = 18
_LEGEND_HEIGHT, _LEGEND_WIDTH = 14, 256


def explanation_grid(
    pixels: np.ndarray,
    heatmaps: np.ndarray,
    captions: Sequence[str],
    map_captions: Sequence[Sequence[str]],
    headings: Sequence[str],
    opacity: float = 0.5,
    colormap: ColorMap = "inferno",
    tile: int = 96,
    title: str = "",
) -> np.ndarray:
    """Return a grid with one row per image: the image, then each heatmap alone and overlaid on the image.

    Args:
        pixels: uint8 (N, H, W, 3), RGB, or (N, H, W), gray.
        heatmaps: float (N, M, H, W) in [0, 1].
        captions: N texts of one or more lines below the images.
        map_captions: For each image, M texts of one or more lines below its heatmaps.
        headings: M texts above the columns of heatmaps.
        opacity: Opacity of the overlaid heatmaps: 0 shows the image alone, 1 the heatmap.
        colormap: See ``overlay.colorize``.
        tile: Maximum side of an enlarged image; the scale is an integer.
        title: Lines above the grid, the first in bold.

    Returns:
        uint8 (height, width, 3); without images or heatmaps, a picture of the title or "no heatmaps".

    Raises:
        ValueError: if the numbers of images, heatmaps and texts do not match, or the opacity is not in [0, 1].
    """
    images, maps = heatmaps.shape[:2]
    if not (len(pixels) == len(captions) == len(map_captions) == images) or len(headings) != maps:
        raise ValueError(
            f"{images} x {maps} heatmaps need as many images and captions and a heading for each column, got"
            f" {len(pixels)} images, {len(captions)} and {len(map_captions)} captions, {len(headings)} headings"
        )
    if images == 0 or maps == 0:
        return text_picture(title or "no heatmaps")
    tiles = enlarge_images(as_rgb(pixels), tile)
    tile_maps = enlarge_images(heatmaps.reshape(-1, *heatmaps.shape[2:]), tile).reshape(images, maps, *tiles.shape[1:3])
    height, width = tiles.shape[1:3]
    lines = 1 + max(text.count("\n") for text in [*captions, *(text for texts in map_captions for text in texts)])
    pair, cell_height = 2 * (width + GAP), height + lines * _LINE + 2 * GAP
    header, footer = LINE_HEIGHT, _LEGEND_HEIGHT + LINE_HEIGHT + 2 * GAP
    canvas, draw, top = titled_canvas(
        title, GAP + width + GAP + maps * (pair + GAP), header + images * cell_height + footer
    )
    column_x = [GAP + width + 2 * GAP + index * (pair + GAP) for index in range(maps)]
    for x, heading in zip(column_x, headings, strict=True):
        draw.text((x, top), truncate(heading, font(_SMALL), pair - GAP), FAINT_INK, font(_SMALL))
    for row in range(images):
        y = top + header + row * cell_height
        canvas.paste(Image.fromarray(tiles[row]), (GAP, y))
        _caption(draw, captions[row], GAP, y + height, width + GAP)
        for x, heat, text in zip(column_x, tile_maps[row], map_captions[row], strict=True):
            canvas.paste(Image.fromarray(colorize(heat, colormap)), (x, y))
            canvas.paste(Image.fromarray(overlay(tiles[row], heat, opacity, colormap)), (x + width + GAP, y))
            _caption(draw, text, x, y + height, pair - GAP)
    _legend(canvas, draw, colormap, GAP, top + header + images * cell_height + GAP)
    return np.asarray(canvas)


def _caption(draw: ImageDraw.ImageDraw, text: str, x: int, y: int, width: int) -> None:
    for number, line in enumerate(text.split("\n")):
        draw.text((x, y + 2 + number * _LINE), truncate(line, font(_SMALL), width), INK, font(_SMALL))


def _legend(canvas: Image.Image, draw: ImageDraw.ImageDraw, colormap: ColorMap, x: int, y: int) -> None:
    scale = np.linspace(0, 1, _LEGEND_WIDTH)[None].repeat(_LEGEND_HEIGHT, 0)
    canvas.paste(Image.fromarray(colorize(scale, colormap)), (x, y))
    below = y + _LEGEND_HEIGHT + 2
    draw.text((x, below), "least", FAINT_INK, font(_SMALL))
    draw.text((x + _LEGEND_WIDTH, below), "most", FAINT_INK, font(_SMALL), anchor="ra")
    draw.text((x + _LEGEND_WIDTH + 2 * GAP, y - 2), "evidence for the class (scaled", FAINT_INK, font(_SMALL))
    draw.text((x + _LEGEND_WIDTH + 2 * GAP, below - 2), "within each heatmap)", FAINT_INK, font(_SMALL))
