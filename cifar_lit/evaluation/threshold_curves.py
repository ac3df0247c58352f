"""ROC and precision-recall curves of each class against all others."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

_THRESHOLDS = 4095


class ClassCurves(NamedTuple):
    """The curves of one class, whose images are distinguished from all others by the probability of the class.

    false_positive_rate, recall, precision: float64 (T,), from the highest threshold to the lowest. The ROC curve is
        recall over false_positive_rate.
    roc_auc: Area under the ROC curve; NaN without images of the class, or of others.
    average_precision: Mean precision over the steps of recall; NaN without images of the class.
    threshold: The probability from which on the class has its highest F1 score.
    best_precision, best_recall: At that threshold.
    """

    false_positive_rate: Tensor
    recall: Tensor
    precision: Tensor
    roc_auc: float
    average_precision: float
    threshold: float
    best_precision: float
    best_recall: float


class ThresholdCurves(Metric):
    """ROC and precision-recall curves of each class, from counts of images between 4,095 thresholds.

    They are close to those of ``exact_curves``, in memory that does not depend on the number of images.

    Args:
        classes: The number of classes.
    """

    full_state_update = False
    positives: Tensor
    negatives: Tensor
    thresholds: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        steps = torch.linspace(-16, 16, _THRESHOLDS).sigmoid()  # even in log-odds: most are close to 0 or 1
        self.register_buffer("thresholds", steps)
        for name in ("positives", "negatives"):
            self.add_state(name, torch.zeros(len(steps) + 1, classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Add a batch: probabilities float (N, C), labels int64 (N,)."""
        classes = probabilities.shape[1]
        cells = torch.bucketize(probabilities, self.thresholds, right=True) * classes
        cells += torch.arange(classes, device=cells.device)
        is_label = torch.zeros_like(cells, dtype=torch.bool).scatter_(1, labels[:, None], True)
        for counts, chosen in ((self.positives, is_label), (self.negatives, ~is_label)):
            counts += torch.bincount(cells[chosen], minlength=counts.numel()).view_as(counts)

    def compute(self) -> list[ClassCurves]:
        """Return the curves of each class, over all processes."""
        true, false = (counts.cpu().flip(0).cumsum(0).double().T for counts in (self.positives, self.negatives))
        thresholds = torch.cat([self.thresholds.flip(0).cpu(), torch.zeros(1)])
        return [_class_curves(*counts, thresholds) for counts in zip(true, false, strict=True)]


def exact_curves(probabilities: Tensor, labels: Tensor) -> list[ClassCurves]:
    """Return the curves of each class with each probability as a threshold, as scikit-learn does.

    Args:
        probabilities: float (N, C).
        labels: int64 (N,).
    """
    found = []
    for label, scores in enumerate(probabilities.T):
        thresholds, cells = scores.unique(return_inverse=True)
        true, false = (
            torch.bincount(cells[chosen], minlength=len(thresholds)).flip(0).cumsum(0).double()
            for chosen in (labels == label, labels != label)
        )
        found.append(_class_curves(true, false, thresholds.flip(0)))
    return found


def _class_curves(true: Tensor, false: Tensor, thresholds: Tensor) -> ClassCurves:
    """Return the curves for the numbers of true and false positives (T,) at decreasing thresholds (T,)."""
    recall, fpr = true / true[-1].clamp(min=1), false / false[-1].clamp(min=1)
    precision = torch.where(true + false > 0, true / (true + false).clamp(min=1), 1.0)
    best = int((2 * true / (true[-1] + true + false).clamp(min=1)).argmax())  # F1
    steps = torch.diff(recall, prepend=recall.new_zeros(1))
    start = recall.new_zeros(1)
    area = torch.trapezoid(torch.cat([start, recall]), torch.cat([start, fpr]))
    return ClassCurves(
        fpr,
        recall,
        precision,
        float(area) if true[-1] > 0 and false[-1] > 0 else float("nan"),
        float((steps * precision).sum()) if true[-1] > 0 else float("nan"),
        *(float(values[best]) for values in (thresholds, precision, recall)),
    )
