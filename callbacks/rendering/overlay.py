"""Heatmaps as colours, alone and laid over the image that they explain."""

from functools import cache
from typing import Literal

import matplotlib
import numpy as np

# The first three change evenly in lightness, so that equal steps look equal, to the colour-blind as well and in grey
ColorMap = Literal["inferno", "viridis", "cividis", "turbo", "jet"]


def colored(heatmaps: np.ndarray, colormap: ColorMap = "inferno") -> np.ndarray:
    """Heatmaps in colours, the hottest places in the map's last.

    Args:
        heatmaps: float (..., H, W) in [0, 1].
        colormap: One of matplotlib's colour maps.

    Returns:
        uint8 (..., H, W, 3), RGB.
    """
    places = (np.clip(heatmaps, 0, 1) * 255).round().astype(np.uint8)
    return _colors(colormap)[places]


def overlay(pixels: np.ndarray, heatmaps: np.ndarray, opacity: float, colormap: ColorMap = "inferno") -> np.ndarray:
    """Images with their heatmaps over them.

    Args:
        pixels: uint8 (..., H, W, 3), RGB.
        heatmaps: float (..., H, W) in [0, 1].
        opacity: 0 gives the plain images, 1 the plain heatmaps.
        colormap: See ``colored``.

    Returns:
        uint8 (..., H, W, 3), RGB.

    Raises:
        ValueError: if the opacity is not in [0, 1].
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be from 0 (the image) to 1 (the heatmap), got {opacity}")
    blended = (1 - opacity) * pixels.astype(np.float32) + opacity * colored(heatmaps, colormap)
    return blended.round().astype(np.uint8)


@cache
def _colors(colormap: str) -> np.ndarray:
    """uint8 (256, 3)."""
    return (matplotlib.colormaps[colormap](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
