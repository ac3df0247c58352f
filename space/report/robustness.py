"""How a network does on corrupted images, and on images that are none of the classes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cifar_lit.bundle import TrainedClassifier
from cifar_lit.judged import energy
from space.report.corruptions import EXTRA, KINDS, SEVERITIES, corrupted

_BATCH = 128  # of which float copies are made


@dataclass(frozen=True)
class Robustness:
    """Accuracy under common corruptions.

    images: How many were corrupted.
    clean: Accuracy on the same images as they are.
    accuracy: float (K, 5), of each kind at each severity.
    kinds: The K kinds.
    """

    images: int
    clean: float
    accuracy: np.ndarray
    kinds: tuple[str, ...] = KINDS

    @property
    def mean_error(self) -> float:
        """The mean corruption error, over severities and the kinds that are in CIFAR-10-C's own mean (11 of its 15),
        not divided by another network's (as is usual for CIFAR-10-C)."""
        return 1 - float(self.accuracy[[kind not in EXTRA for kind in self.kinds]].mean())


def robustness(trained: TrainedClassifier, pixels: Tensor, labels: Tensor, seed: int = 0) -> Robustness:
    """Judges a classifier by corrupted images.

    Args:
        trained: The classifier.
        pixels: uint8 (N, 3, H, W).
        labels: int64 (N,).
        seed: Of the corruptions.
    """
    clean, right = 0, np.zeros((len(KINDS), SEVERITIES), np.int64)

    def count_right(images: np.ndarray, labels: Tensor) -> int:
        logits = trained.logits(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous())
        return int((logits.argmax(1).cpu() == labels).sum())

    parts = zip(pixels.split(_BATCH), labels.split(_BATCH), strict=True)
    for number, (part, of_part) in enumerate(parts):
        images = part.permute(0, 2, 3, 1).numpy()
        clean += count_right(images, of_part)
        for row, kind in enumerate(KINDS):
            for severity in range(1, SEVERITIES + 1):
                changed = corrupted(images, kind, severity, seed + number)
                right[row, severity - 1] += count_right(changed, of_part)
    return Robustness(len(pixels), clean / len(pixels), right / len(pixels))


def unknown_auroc(known: Tensor, unknown: Mapping[str, Tensor]) -> dict[str, float]:
    """How well the energy tells images of the classes from others: the probability that one of the classes has more.

    Args:
        known: float (N, C), logits of images of the classes.
        unknown: float (M, C), logits of images of other kinds, by kind.

    Source: the area under the receiver operating characteristic, by scikit-learn; Liu et al. 2020, arXiv:2010.03759.
    """
    from sklearn.metrics import roc_auc_score

    return {
        kind: float(
            roc_auc_score([1] * len(known) + [0] * len(logits), energy(torch.cat([known, logits])).cpu().numpy())
        )
        for kind, logits in unknown.items()
    }
