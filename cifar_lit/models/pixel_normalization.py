"""Normalization of pixels as the first layer of every model."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class PixelNormalization(nn.Module):
    """Scale pixels to [0, 1], then subtract the mean of the dataset and divide by its standard deviation.

    Args:
        mean: Mean of each channel, in [0, 1].
        std: Standard deviation of each channel over all pixels of the dataset, in [0, 1].

    >>> PixelNormalization([0.5], [0.25])(torch.tensor([[[[0, 255]]]], dtype=torch.uint8)).tolist()
    [[[[-2.0, 2.0]]]]
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return float32 (N, C, H, W) of pixels (N, C, H, W), 0 to 255, uint8 or (after mixup) float32."""
        return (pixels / 255 - self.mean) / self.std
