"""Exact mean and standard deviation of a dataset, in bounded memory."""

import torch
from torch import Tensor


def mean_and_std(pixels: Tensor) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation of each channel over all pixels.

    Exact, since computed from per-channel histograms; works block by block, for memory-mapped arrays.

    Args:
        pixels: uint8 (N, C, H, W).

    Returns:
        Two lists of C numbers in [0, 1]. A standard deviation is at least one step of the pixels' values, so that a
        channel that is the same everywhere, as in pictures with one color only, can be divided by it.
    """
    channels = pixels.shape[1]
    counts = torch.zeros(channels, 256, dtype=torch.float64)
    for block in pixels.split(4096):
        for channel in range(channels):
            counts[channel] += torch.bincount(block[:, channel].flatten(), minlength=256)
    values = torch.arange(256, dtype=torch.float64) / 255
    probs = counts / counts.sum(1, keepdim=True)
    mean = probs @ values
    std = (probs @ values**2 - mean**2).clamp(min=1 / 255**2).sqrt()
    return mean.tolist(), std.tolist()
