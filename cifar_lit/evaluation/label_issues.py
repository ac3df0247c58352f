"""Confident learning: labels that may be wrong, from running sums instead of all probabilities."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

# CONFIDENT_THRESHOLDS_LOWER_BOUND and FLOATING_POINT_COMPARISON of cleanlab
_MIN_THRESHOLD, _TOLERANCE = 2e-6, 1e-6


class ConfidentThresholds(Metric):
    """The mean probability that a network gives to each class, over the images labeled with it.

    Source: Northcutt, Jiang & Chuang 2021, arXiv:1911.00068, eq. 2.

    Args:
        classes: Number of classes.
    """

    full_state_update = False
    sums: Tensor
    counts: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        for name in ("sums", "counts"):
            self.add_state(name, torch.zeros(classes, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Add a batch: probabilities float (N, C), labels int64 (N,)."""
        label_probs = probabilities.gather(1, labels[:, None])[:, 0].double()
        self.sums.index_add_(0, labels, label_probs)
        self.counts.index_add_(0, labels, torch.ones_like(label_probs))

    def compute(self) -> Tensor:
        """Return the thresholds float64 (C,); infinite for a class without images."""
        thresholds = (self.sums / self.counts.clamp(min=1)).clamp(min=_MIN_THRESHOLD)
        return torch.where(self.counts > 0, thresholds, torch.inf)


def is_label_issue(probabilities: Tensor, labels: Tensor, thresholds: Tensor) -> Tensor:
    """Return bool (N,), whether each label may be wrong: off the diagonal of the confident joint.

    Args:
        probabilities: float (N, C).
        labels: int64 (N,).
        thresholds: float (C,), of ``ConfidentThresholds``.

    Source: Northcutt, Jiang & Chuang 2021, arXiv:1911.00068, eq. 1; cleanlab's ``filter_by="confident_learning"``.
    """
    confident = probabilities >= thresholds - _TOLERANCE
    in_label = confident.gather(1, labels[:, None])[:, 0]
    in_other = (confident.sum(1) > 1) | (confident.any(1) & ~in_label)  # if several, the most probable class counts
    return in_other & (probabilities.argmax(1) != labels)


class LabelIssues(NamedTuple):
    """Images whose label may be wrong, the most suspicious first.

    indices: int64 (K,), positions among the examined images.
    suggested: int64 (K,), the predicted classes.
    scores: float (K,), self-confidence: the probability of the given label.
    """

    indices: Tensor
    suggested: Tensor
    scores: Tensor


def find_label_issues(probabilities: Tensor, labels: Tensor) -> LabelIssues:
    """Find labels that may be wrong by confident learning, ranked by self-confidence.

    Args:
        probabilities: float (N, C), out-of-sample probabilities.
        labels: int64 (N,), the given labels.

    Source: Northcutt, Jiang & Chuang 2021, arXiv:1911.00068; equal to cleanlab's ``find_label_issues`` with
        ``filter_by="confident_learning"`` and ``return_indices_ranked_by="self_confidence"``.
    """
    thresholds = ConfidentThresholds(probabilities.shape[1])
    thresholds.update(probabilities, labels)
    indices = is_label_issue(probabilities, labels, thresholds.compute()).nonzero()[:, 0]
    scores = probabilities[indices, labels[indices]]
    order = scores.argsort(stable=True)
    indices = indices[order]
    return LabelIssues(indices, probabilities[indices].argmax(1), scores[order])
