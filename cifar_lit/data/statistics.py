"""Exact mean and standard deviation of a dataset, in bounded memory."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

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

    def count(channels: Sequence[Tensor]) -> Tensor:
        return torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in channels])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = sum(pool.map(count, (block.unbind(1) for block in pixels.split(256))), torch.tensor(0)).double()
    values = torch.arange(256, dtype=torch.float64) / 255
    probs = counts / counts.sum(1, keepdim=True)
    mean = probs @ values
    std = (probs @ values**2 - mean**2).clamp(min=1 / 255**2).sqrt()
    return mean.tolist(), std.tolist()
