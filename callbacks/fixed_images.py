"""Collect the images with given indices, batch by batch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class ScoredImages(NamedTuple):
    """Images with their logits.

    pixels: uint8 (N, 3, H, W).
    logits: float32 (N, C).
    labels, indices: int64 (N,), the true class, and the row of the data set.
    """

    pixels: Tensor
    logits: Tensor
    labels: Tensor
    indices: Tensor


class FixedImages:
    """Collect images by their index in the data set.

    Args:
        indices: The images to collect.
        device: Device of the batches.
    """

    def __init__(self, indices: Sequence[int], device: torch.device) -> None:
        self.indices = torch.tensor(indices, dtype=torch.int64, device=device)
        self._kept: dict[str, Tensor] = {}

    def update(self, pixels: Tensor, logits: Tensor, labels: Tensor, indices: Tensor) -> None:
        """Add a batch, without synchronizing with the device."""
        matches = self.indices[:, None] == indices  # (K, N)
        found, position = matches.any(1), matches.int().argmax(1)
        batch = {"pixels": pixels, "logits": logits.float(), "labels": labels}
        if not self._kept:
            self._kept = {name: values.new_zeros(len(found), *values.shape[1:]) for name, values in batch.items()}
            self._kept["found"] = torch.zeros_like(found)
        for name, values in batch.items():
            mask = found.view(-1, *[1] * (values.ndim - 1))
            self._kept[name] = torch.where(mask, values[position], self._kept[name])
        self._kept["found"] = self._kept["found"] | found

    def gathered(self, all_gather: Any) -> ScoredImages:
        """Return the images found in any process, in the order of ``indices``; all processes must call this."""
        kept = {name: all_gather(values) for name, values in self._kept.items()}
        if kept["found"].ndim == 1:
            kept = {name: values[None] for name, values in kept.items()}
        process, column = kept["found"].int().argmax(0), torch.arange(len(self.indices), device=self.indices.device)
        found = kept["found"].any(0)
        columns = [kept[name][process, column] for name in ("pixels", "logits", "labels")] + [self.indices]
        return ScoredImages(*(values[found].cpu() for values in columns))
