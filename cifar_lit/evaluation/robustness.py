"""Accuracy under common corruptions."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cifar_lit.evaluation.corruptions import EXTRA, KINDS, SEVERITIES, corrupt

_BATCH = 128  # limits the memory of the float copies


@dataclass(frozen=True)
class Robustness:
    """Accuracy under common corruptions.

    images: Number of images.
    clean: Accuracy on the uncorrupted images.
    accuracy: float (K, 5), by kind and severity.
    """

    images: int
    clean: float
    accuracy: np.ndarray

    @property
    def mean_error(self) -> float:
        """Mean corruption error over all severities and the 11 implemented kinds that CIFAR-10-C averages.

        As usual for CIFAR-10-C, it is not divided by the error of a baseline network.
        """
        return 1 - float(self.accuracy[[kind not in EXTRA for kind in KINDS]].mean())


def evaluate_robustness(
    logits_of: Callable[[Tensor], Tensor],
    pixels: Tensor,
    labels: Tensor,
    seed: int = 0,
    progress: Callable[[list[tuple[int, ...]]], Iterable[tuple[int, ...]]] = iter,
) -> Robustness:
    """Evaluate a classifier on corrupted images.

    Args:
        logits_of: Returns logits (n, C) for pixels uint8 (n, 3, H, W).
        pixels: uint8 (N, 3, H, W).
        labels: int64 (N,).
        seed: Seed of the corruptions.
        progress: Wraps the list of steps to show progress.
    """

    def predict(images: np.ndarray) -> Tensor:
        return logits_of(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()).argmax(1).cpu()

    chunks = zip(pixels.split(_BATCH), labels.split(_BATCH), strict=True)
    batches = [(chunk.permute(0, 2, 3, 1).numpy(), chunk_labels) for chunk, chunk_labels in chunks]
    clean = sum(int((predict(images) == batch_labels).sum()) for images, batch_labels in batches)
    counts = np.zeros((len(KINDS), SEVERITIES), np.int64)
    for number, kind in progress(list(np.ndindex(len(batches), len(KINDS)))):
        images, batch_labels = batches[number]
        corrupted = [corrupt(images, KINDS[kind], severity, seed + number) for severity in range(1, SEVERITIES + 1)]
        predictions = predict(np.concatenate(corrupted)).view(SEVERITIES, -1)
        counts[kind] += (predictions == batch_labels).sum(1).numpy()
    return Robustness(len(pixels), clean / len(pixels), counts / len(pixels))
