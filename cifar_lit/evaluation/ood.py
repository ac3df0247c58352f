"""Out-of-distribution (OOD) detection: scores that are low for images of none of the classes, and a threshold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from cifar_lit.evaluation.neighbors import nearest

OODScore = Literal["energy", "max_logit", "msp", "knn"]
FALSE_ALARM_RATE = 0.05  # share of the validation images that a threshold flags
_MARGIN = 0.01  # of the mean AUROC, below which another score is not preferred to the energy
MIN_NEAR_AUROC = 0.8  # on images similar to those of the classes, below which the page flags no image by default


def energy(logits: Tensor) -> Tensor:
    """Return the energy score float (N,) of logits (N, C).

    Source: the negative energy of Liu et al. 2020, arXiv:2010.03759, eq. 4, at temperature 1.

    >>> import torch
    >>> energy(torch.tensor([[0.0, 0.0], [5.0, 0.0]])) > 1
    tensor([False,  True])
    """
    return logits.float().logsumexp(1)


def max_logit(logits: Tensor) -> Tensor:
    """Return the largest logit float (N,) of logits (N, C).

    Source: Hendrycks et al. 2022, arXiv:1911.11132, section 3.
    """
    return logits.float().amax(1)


def msp(logits: Tensor) -> Tensor:
    """Return the maximum softmax probability float (N,) of logits (N, C).

    Source: Hendrycks & Gimpel 2017, arXiv:1610.02136, section 3.
    """
    return logits.float().softmax(1).amax(1)


# Of the logits alone; k-NN needs features
SCORES: dict[OODScore, Callable[[Tensor], Tensor]] = {"energy": energy, "max_logit": max_logit, "msp": msp}
SCORE_NAMES: dict[OODScore, str] = {"energy": "energy", "max_logit": "max-logit", "msp": "MSP", "knn": "k-NN"}


def knn(features: Tensor, training_features: Tensor, k: int = 10) -> Tensor:
    """Return the cosine similarity float (N,) to the k-th nearest training image.

    It orders images as the distance of normalized features does.

    Args:
        features: float (N, F), of length 1; see ``cifar_lit.evaluation.neighbors.features``.
        training_features: float (M, F), of length 1.
        k: Number of neighbors; at most M are used.

    Source: Sun et al. 2022, arXiv:2204.06507, section 3; 10 neighbors suit a fifth of CIFAR-10's training images.
    """
    return nearest(features, training_features, k)[1][:, -1]


@dataclass(frozen=True)
class OODThreshold:
    """A threshold on a score, below which an image is flagged as out-of-distribution, and its error rates.

    score: The score.
    threshold: The score below which an image is flagged.
    fitted_on, evaluated_on: The splits on which the threshold was fitted and its false alarms were measured.
    false_alarms: Share of in-distribution images that are flagged.
    found: Share of synthetic out-of-distribution images that are flagged, by kind of image.
    near: AUROC of the score on out-of-distribution images similar to those of the classes, by kind; see ``report``.
    flag_images: Whether the page flags images; by default if that is ``useful``.
    """

    score: OODScore
    threshold: float
    fitted_on: str
    evaluated_on: str
    false_alarms: float
    found: dict[str, float]
    near: dict[str, float] = field(default_factory=dict)
    flag_images: bool | None = None

    @property
    def useful(self) -> bool:
        """Whether out-of-distribution images are flagged at least twice as often as images of the classes.

        If it was measured, the mean AUROC on similar images must also be at least ``MIN_NEAR_AUROC``.
        """
        separates = not self.near or sum(self.near.values()) >= MIN_NEAR_AUROC * len(self.near)
        return separates and sum(self.found.values()) >= 2 * self.false_alarms * len(self.found)

    @property
    def is_active(self) -> bool:
        """Whether the page flags images."""
        return self.useful if self.flag_images is None else self.flag_images


def fit_ood_threshold(
    known: Mapping[str, Tensor],
    unknown: Mapping[str, Tensor],
    score: OODScore,
    threshold: float | None = None,
) -> OODThreshold:
    """Return the threshold that flags ``FALSE_ALARM_RATE`` of the in-distribution images, with its error rates.

    Args:
        known: Scores (N,) of in-distribution images by split; the threshold is fitted on the first split and
            evaluated on the last.
        unknown: Scores (N,) of out-of-distribution images by kind.
        score: Name of the score.
        threshold: A threshold fitted before, on ``val``.
    """
    fitted_on, evaluated_on = next(iter(known)) if threshold is None else "val", list(known)[-1]
    if threshold is None:
        threshold = float(known[fitted_on].quantile(FALSE_ALARM_RATE))

    def flagged(scores: Tensor) -> float:
        return float((scores < threshold).float().mean())

    found = {kind: flagged(scores) for kind, scores in unknown.items()}
    return OODThreshold(score, threshold, fitted_on, evaluated_on, flagged(known[evaluated_on]), found)


def best_score(near: Mapping[OODScore, Mapping[str, float]]) -> OODScore:
    """Return the score with the highest mean AUROC, or ``energy`` if none is better by 0.01.

    Args:
        near: See ``mean_aurocs``.

    >>> best_score({"energy": {"cat": 0.7, "dog": 0.8}, "msp": {"cat": 0.9, "dog": 0.7}})
    'msp'
    """
    means = mean_aurocs(near)
    if not means:
        return "energy"
    means["energy"] += _MARGIN
    return max(means, key=lambda score: means[score])


def mean_aurocs(near: Mapping[OODScore, Mapping[str, float]]) -> dict[OODScore, float]:
    """Return the mean AUROC of each score, over the kinds of images that all measured scores have in common.

    Args:
        near: The AUROC by score and kind; may be empty.

    >>> mean_aurocs({"energy": {"cat": 0.5, "dog": 0.75}, "knn": {"dog": 1.0}})
    {'energy': 0.75, 'knn': 1.0}
    """
    measured = {score: areas for score, areas in near.items() if areas}
    common = set.intersection(*map(set, measured.values())) if measured else set()
    return {score: sum(areas[kind] for kind in common) / len(common) for score, areas in measured.items() if common}


def auroc(known: Tensor, unknown: Tensor) -> float:
    """Return the probability that an in-distribution image has a higher score than an out-of-distribution one.

    Args:
        known: float (N,), scores of in-distribution images.
        unknown: float (M,), scores of out-of-distribution images.

    Source: Mann-Whitney's U, divided by N M, is the area under the receiver operating characteristic.
    """
    from scipy.stats import mannwhitneyu  # slow to import, unused by a Space

    inside, outside = (scores.cpu().double().numpy() for scores in (known, unknown))
    return float(mannwhitneyu(inside, outside, method="asymptotic").statistic) / (len(known) * len(unknown))
