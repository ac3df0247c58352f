"""Out-of-distribution detection: whether an image is probably none of the classes."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class OODThreshold:
    """The energy below which an image is probably none of the classes, and how often that is wrong.

    threshold: Of ``energy``.
    fitted_on: The split that the threshold was fitted on.
    false_alarms: Share of ``judged_on``'s images that are called unknown, though they are of the classes.
    found: For each kind of images that are none of the classes, the share that is called unknown.
    """

    threshold: float
    fitted_on: str
    judged_on: str
    false_alarms: float
    found: dict[str, float]

    @property
    def useful(self) -> bool:
        """Whether an image that is none of the classes is called unknown at least twice as often as one that is."""
        return sum(self.found.values()) >= 2 * self.false_alarms * len(self.found)

    def flags(self, logits: Tensor) -> Tensor:
        """bool (N,), of logits (N, C): whether an image is probably none of the classes."""
        return energy(logits) < self.threshold


def energy(logits: Tensor) -> Tensor:
    """How much the network sees of any of its classes: float (N,), of logits (N, C).

    Source: Liu et al. 2020, arXiv:2010.03759, eq. 4, with the sign changed and temperature 1.

    >>> energy(torch.tensor([[0.0, 0.0], [5.0, 0.0]])) > 1
    tensor([False,  True])
    """
    return logits.float().logsumexp(1)


def fit_ood_threshold(
    known: Mapping[str, Tensor], unknown: Mapping[str, Tensor], false_alarms: float = 0.05
) -> OODThreshold:
    """The threshold that calls a share of known images unknown, and its rates.

    Args:
        known: Logits (N, C) by split; the first one fits the threshold, the last one judges it.
        unknown: Logits (N, C) of images that are none of the classes, by kind.
        false_alarms: The share of the first split that may be called unknown.
    """
    fitted_on, judged_on = next(iter(known)), list(known)[-1]
    threshold = float(energy(known[fitted_on]).quantile(false_alarms))

    def share(logits: Tensor) -> float:
        return float((energy(logits) < threshold).float().mean())

    return OODThreshold(
        threshold,
        fitted_on,
        judged_on,
        share(known[judged_on]),
        {kind: share(logits) for kind, logits in unknown.items()},
    )


def auroc(known: Tensor, unknown: Tensor) -> float:
    """Return the probability that an image of the classes has a higher energy score than one of something else.

    Args:
        known: float (N, C), logits of images of the classes.
        unknown: float (M, C), logits of images of something else.

    Source: area under the receiver operating characteristic, by torchmetrics; Liu et al. 2020, arXiv:2010.03759.
    """
    from torchmetrics.functional.classification import binary_auroc  # slow to import, and not needed to classify

    is_known = torch.cat([torch.ones(len(known)), torch.zeros(len(unknown))]).long()
    ranks = energy(torch.cat([known, unknown]).cpu()).double()
    # torchmetrics applies a sigmoid to scores outside [0, 1], which would merge high ones: rescale first
    ranks = (ranks - ranks.min()) / (ranks.max() - ranks.min()).clamp(min=1e-12)
    return float(binary_auroc(ranks, is_known))
