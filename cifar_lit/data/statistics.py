"""Mean and standard deviation of a data set, exact and in bounded memory."""

import torch
from torch import Tensor


def statistics(pixels: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over all pixels.

    Counted value by value, so exact for any number of images, and never more than one block of them in memory.

    Args:
        pixels: uint8 (N, C, H, W).

    Returns:
        Two lists of C numbers in [0, 1].
    """
    channels = pixels.shape[1]
    counts = torch.zeros(channels, 256, dtype=torch.float64)
    for block in pixels.split(4096):
        for channel in range(channels):
            counts[channel] += torch.bincount(block[:, channel].flatten(), minlength=256)
    values = torch.arange(256, dtype=torch.float64) / 255
    shares = counts / counts.sum(1, keepdim=True)
    mean = shares @ values
    std = (shares @ values**2 - mean**2).clamp(min=0).sqrt()
    return mean.tolist(), std.tolist()
