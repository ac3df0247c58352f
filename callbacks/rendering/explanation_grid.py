"""Grid of images with heatmaps over them."""

from collections.abc import Sequence

import numpy as np

from callbacks.rendering.grid import enlarge_images, image_grid
from callbacks.rendering.overlay import ColorMap, overlay


def explanation_grid(
    pixels: np.ndarray,
    heatmaps: np.ndarray,
    captions: Sequence[str],
    map_captions: Sequence[Sequence[str]],
    opacity: float = 0.5,
    colormap: ColorMap = "inferno",
    tile: int = 128,
    title: str = "",
    dark: bool = False,
) -> np.ndarray:
    """Return a grid with one row per image: the image, then the image overlaid with each of its heatmaps.

    Args:
        pixels: uint8 (N, H, W, 3).
        heatmaps: float (N, M, H, W) in [0, 1].
        captions: N texts of one or more lines below the images.
        map_captions: For each image, M texts of one or more lines below its heatmaps.
        opacity: Opacity of the heatmaps: 0 shows the image alone, 1 the heatmap.
        colormap: See ``overlay.colorize``.
        tile: Maximum side of an enlarged image; the scale is an integer.
        title: Lines above the grid, the first in bold.
        dark: Whether to draw for a dark page.

    Returns:
        uint8 (height, width, 3); without images, a picture of the title or "no images".

    Raises:
        ValueError: if the numbers of images, heatmaps and texts do not match, or the opacity is not in [0, 1].
    """
    images, maps = heatmaps.shape[:2]
    tiles = enlarge_images(pixels, tile)[:, None]
    enlarged = enlarge_images(heatmaps.reshape(-1, *heatmaps.shape[2:]), tile).reshape(images, maps, *tiles.shape[2:4])
    cells = np.concatenate([tiles, overlay(tiles, enlarged, opacity, colormap)], 1)
    texts = [text for caption, row in zip(captions, map_captions, strict=True) for text in (caption, *row)]
    return image_grid(cells.reshape(-1, *cells.shape[2:]), texts, 1 + maps, tile, title, dark=dark)
