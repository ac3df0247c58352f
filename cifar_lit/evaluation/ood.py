"""Out-of-distribution (OOD) detection by the energy score."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

FALSE_ALARM_RATE = 0.05  # share of the validation images that a threshold flags


@dataclass(frozen=True)
class OODThreshold:
    """A threshold on the energy score, below which an image is flagged as out-of-distribution, and its error rates.

    threshold: Energy score.
    fitted_on, evaluated_on: The splits on which the threshold was fitted and its false alarms were measured.
    false_alarms: Share of in-distribution images that are flagged.
    found: Share of out-of-distribution images that are flagged, by kind of image.
    """

    threshold: float
    fitted_on: str
    evaluated_on: str
    false_alarms: float
    found: dict[str, float]

    @property
    def useful(self) -> bool:
        """Whether out-of-distribution images are flagged at least twice as often as images of the classes."""
        return sum(self.found.values()) >= 2 * self.false_alarms * len(self.found)

    def flags(self, logits: Tensor) -> Tensor:
        """Return bool (N,), whether each image is flagged, for logits (N, C)."""
        return energy(logits) < self.threshold


def energy(logits: Tensor) -> Tensor:
    """Return the energy score float (N,) of logits (N, C); lower means more likely out-of-distribution.

    Source: the negative energy of Liu et al. 2020, arXiv:2010.03759, eq. 4, at temperature 1.

    >>> energy(torch.tensor([[0.0, 0.0], [5.0, 0.0]])) > 1
    tensor([False,  True])
    """
    return logits.float().logsumexp(1)


def fit_ood_threshold(
    known: Mapping[str, Tensor], unknown: Mapping[str, Tensor], threshold: float | None = None
) -> OODThreshold:
    """Return the threshold that flags ``FALSE_ALARM_RATE`` of the in-distribution images, with its error rates.

    Args:
        known: Logits (N, C) of in-distribution images by split; the threshold is fitted on the first split and
            evaluated on the last.
        unknown: Logits (N, C) of out-of-distribution images by kind.
        threshold: A threshold fitted before, on ``val``.
    """
    fitted_on, evaluated_on = next(iter(known)) if threshold is None else "val", list(known)[-1]
    if threshold is None:
        threshold = float(energy(known[fitted_on]).quantile(FALSE_ALARM_RATE))

    def flagged(logits: Tensor) -> float:
        return float((energy(logits) < threshold).float().mean())

    found = {kind: flagged(logits) for kind, logits in unknown.items()}
    return OODThreshold(threshold, fitted_on, evaluated_on, flagged(known[evaluated_on]), found)


def auroc(known: Tensor, unknown: Tensor) -> float:
    """Return the probability that an in-distribution image has a higher energy score than an out-of-distribution one.

    Args:
        known: float (N, C), logits of in-distribution images.
        unknown: float (M, C), logits of out-of-distribution images.

    Source: area under the receiver operating characteristic, by torchmetrics; Liu et al. 2020, arXiv:2010.03759.
    """
    from torchmetrics.functional.classification import binary_auroc  # slow to import, unused by a Space

    is_known = torch.cat([torch.ones(len(known)), torch.zeros(len(unknown))]).long()
    scores = energy(torch.cat([known, unknown]).cpu()).double()
    # torchmetrics applies a sigmoid to scores outside [0, 1], which would merge high ones: rescale first
    scores = (scores - scores.min()) / (scores.max() - scores.min()).clamp(min=1e-12)
    return float(binary_auroc(scores, is_known))
