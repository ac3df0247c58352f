"""Color heatmaps and overlay them on images."""

from typing import Literal

import matplotlib
import numpy as np

# The first three are perceptually uniform, also in grayscale and for the color-blind
ColorMap = Literal["inferno", "viridis", "cividis", "turbo", "jet"]


def colorize(heatmaps: np.ndarray, colormap: ColorMap = "inferno") -> np.ndarray:
    """Return heatmaps in color.

    Args:
        heatmaps: float (..., H, W) in [0, 1].
        colormap: One of matplotlib's color maps.

    Returns:
        uint8 (..., H, W, 3), RGB.
    """
    return matplotlib.colormaps[colormap](heatmaps, bytes=True)[..., :3]


def overlay(pixels: np.ndarray, heatmaps: np.ndarray, opacity: float, colormap: ColorMap = "inferno") -> np.ndarray:
    """Return images blended with their heatmaps.

    Args:
        pixels: uint8 (..., H, W, 3), RGB.
        heatmaps: float (..., H, W) in [0, 1].
        opacity: 0 returns the images, 1 the heatmaps.
        colormap: See ``colorize``.

    Returns:
        uint8 (..., H, W, 3), RGB.

    Raises:
        ValueError: if the opacity is not in [0, 1].
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be from 0 (the image) to 1 (the heatmap), got {opacity}")
    blended = (1 - opacity) * pixels.astype(np.float32) + opacity * colorize(heatmaps, colormap)
    return blended.round().astype(np.uint8)
