"""Which labels may be wrong, told from sums alone, while the batches go by."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

_LEAST, _ROUNDING = 2e-6, 1e-6  # as cleanlab has them: CONFIDENT_THRESHOLDS_LOWER_BOUND, FLOATING_POINT_COMPARISON


class ConfidentThresholds(Metric):
    """How sure a network is, on average, of the images that are labelled with each class.

    An image that is taken for another class than its label's, as surely as that class's own images are on average, has
    a label that may be wrong: those off the diagonal of confident learning's joint, which the cleanlab library calls
    ``filter_by="confident_learning"``, without keeping the probabilities of all images.

    Source: Northcutt, Jiang & Chuang 2021, arXiv:1911.00068, eq. 1 and 2.
    """

    full_state_update = False
    sums: Tensor
    counts: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        for name in ("sums", "counts"):
            self.add_state(name, torch.zeros(classes, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Adds a batch.

        Args:
            probabilities: float (N, C), probabilities.
            labels: int64 (N,).
        """
        own = probabilities.gather(1, labels[:, None])[:, 0].double()
        self.sums.index_add_(0, labels, own)
        self.counts.index_add_(0, labels, torch.ones_like(own))

    def compute(self) -> Tensor:
        """float64 (C,); infinite for a class that no image is labelled with."""
        found = (self.sums / self.counts.clamp(min=1)).clamp(min=_LEAST)
        return torch.where(self.counts > 0, found, torch.inf)


def is_label_issue(probabilities: Tensor, labels: Tensor, thresholds: Tensor) -> Tensor:
    """bool (N,), whether the label of an image may be wrong.

    Args:
        probabilities: float (N, C), probabilities.
        labels: int64 (N,).
        thresholds: float (C,), of ``ConfidentThresholds``.
    """
    sure = probabilities >= thresholds - _ROUNDING
    own = sure.gather(1, labels[:, None])[:, 0]
    elsewhere = (sure.sum(1) > 1) | (sure.any(1) & ~own)  # of several classes, the likeliest of all is taken
    return elsewhere & (probabilities.argmax(1) != labels)


class LabelIssues(NamedTuple):
    """Images whose label may be wrong, the likeliest first.

    indices: int64 (K,), positions among the images examined.
    suggested: int64 (K,), the predicted classes.
    scores: float (K,), self-confidence: the probability of the given label.
    """

    indices: Tensor
    suggested: Tensor
    scores: Tensor


def find_label_issues(probabilities: Tensor, labels: Tensor) -> LabelIssues:
    """Find the images whose label may be wrong by confident learning, ranked by self-confidence.

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
