"""Images beside what explains their classification: heatmaps, alone and laid over the image, with a legend."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from callbacks.rendering.grid import GAP, as_rgb, enlarged, titled_canvas
from callbacks.rendering.overlay import ColorMap, colored, overlay
from callbacks.rendering.text import FAINT_INK, FONT_SIZE, INK, LINE_HEIGHT, font, text_picture, truncate

_SMALL = FONT_SIZE - 3  # of the headings, since a heading has two tiles' width for a layer's name
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
    """A row for each image: the image, then for each of its heatmaps the heatmap and the image with it laid over.

    Args:
        pixels: uint8 (N, H, W, 3), RGB, or (N, H, W), grey.
        heatmaps: float (N, M, H, W) in [0, 1].
        captions: N texts of one or more lines below the images.
        map_captions: For each image, M texts of one or more lines below its heatmaps.
        headings: M texts above the columns of heatmaps.
        opacity: Of the heatmaps that are laid over images: 0 shows the image alone, 1 the heatmap.
        colormap: Of the heatmaps, see ``overlay.colored``.
        tile: Width that an image is enlarged to, at most, by a whole factor.
        title: Lines above it all, the first in bold letters.

    Returns:
        uint8 (height, width, 3); for no images or no heatmaps, a picture that says so.

    Raises:
        ValueError: if the numbers of images, heatmaps and texts do not fit, or the opacity is not in [0, 1].
    """
    images, maps = heatmaps.shape[:2]
    if not (len(pixels) == len(captions) == len(map_captions) == images) or len(headings) != maps:
        raise ValueError(
            f"{images} x {maps} heatmaps need as many images and captions and a heading for each column, got"
            f" {len(pixels)} images, {len(captions)} and {len(map_captions)} captions, {len(headings)} headings"
        )
    if images == 0 or maps == 0:
        return text_picture(title or "no heatmaps")
    big = enlarged(as_rgb(pixels), tile)
    big_maps = enlarged(heatmaps.reshape(-1, *heatmaps.shape[2:]), tile).reshape(images, maps, *big.shape[1:3])
    height, width = big.shape[1:3]
    lines = 1 + max(text.count("\n") for text in [*captions, *(text for texts in map_captions for text in texts)])
    pair, cell_height = 2 * (width + GAP), height + lines * _LINE + 2 * GAP
    top_room, bottom_room = LINE_HEIGHT, _LEGEND_HEIGHT + LINE_HEIGHT + 2 * GAP
    canvas, draw, top = titled_canvas(
        title, GAP + width + GAP + maps * (pair + GAP), top_room + images * cell_height + bottom_room
    )
    column_x = [GAP + width + 2 * GAP + place * (pair + GAP) for place in range(maps)]
    for x, heading in zip(column_x, headings, strict=True):
        draw.text((x, top), truncate(heading, font(_SMALL), pair - GAP), FAINT_INK, font(_SMALL))
    for row in range(images):
        y = top + top_room + row * cell_height
        canvas.paste(Image.fromarray(big[row]), (GAP, y))
        _caption(draw, captions[row], GAP, y + height, width + GAP)
        for x, heat, text in zip(column_x, big_maps[row], map_captions[row], strict=True):
            canvas.paste(Image.fromarray(colored(heat, colormap)), (x, y))
            canvas.paste(Image.fromarray(overlay(big[row], heat, opacity, colormap)), (x + width + GAP, y))
            _caption(draw, text, x, y + height, pair - GAP)
    _legend(canvas, draw, colormap, GAP, top + top_room + images * cell_height + GAP)
    return np.asarray(canvas)


def _caption(draw: ImageDraw.ImageDraw, text: str, x: int, y: int, width: int) -> None:
    for number, line in enumerate(text.split("\n")):
        draw.text((x, y + 2 + number * _LINE), truncate(line, font(_SMALL), width), INK, font(_SMALL))


def _legend(canvas: Image.Image, draw: ImageDraw.ImageDraw, colormap: ColorMap, x: int, y: int) -> None:
    """What the colours mean."""
    scale = np.linspace(0, 1, _LEGEND_WIDTH)[None].repeat(_LEGEND_HEIGHT, 0)
    canvas.paste(Image.fromarray(colored(scale, colormap)), (x, y))
    below = y + _LEGEND_HEIGHT + 2
    draw.text((x, below), "least", FAINT_INK, font(_SMALL))
    draw.text((x + _LEGEND_WIDTH, below), "most", FAINT_INK, font(_SMALL), anchor="ra")
    draw.text((x + _LEGEND_WIDTH + 2 * GAP, y - 2), "speaks for the class (scaled", FAINT_INK, font(_SMALL))
    draw.text((x + _LEGEND_WIDTH + 2 * GAP, below - 2), "in each heatmap)", FAINT_INK, font(_SMALL))
