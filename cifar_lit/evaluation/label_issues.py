"""Labels that may be wrong, from the network's prediction and the labels of images that it sees alike."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from cifar_lit.evaluation.calibration import TEMPERATURES
from cifar_lit.evaluation.neighbors import nearest
from cifar_lit.randomness import hash_uniform, key

_MAX_REFERENCE = 5000  # images
_BATCH = 1000
_NEIGHBOR_WEIGHT = 0.1  # of the neighbors' labels in a probability; more ranks worse if many labels are wrong
# Sharper probabilities rank planted errors worse, though human errors better (benchmarks/RESULTS.md)
_TEMPERATURES = [value for value in TEMPERATURES[::4] if value >= 1]
_MIN_PRECISION = 0.75  # of the flags, estimated
_MIN_AGREED = 0.5  # share of the labels; with fewer, at most a seventh of the flags were right (benchmarks/RESULTS.md)
_MIN_SHARE = 0.2  # of the images to estimate the rate of wrong labels on


class Reference(NamedTuple):
    """Images that the network was not trained on, to compare others with.

    logits: float32 (M, C).
    labels: int64 (M,), the given labels.
    indices: int64 (M,), unique in the dataset.
    """

    logits: Tensor
    labels: Tensor
    indices: Tensor


class ReferenceSample(Metric):
    """A random sample of the evaluated images, in memory independent of their number."""

    full_state_update = False
    logits: list[Tensor]
    labels: list[Tensor]
    indices: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in Reference._fields:
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor, indices: Tensor) -> None:
        """Add a batch: logits float (N, C), the given labels int64 (N,), and unique indices int64 (N,)."""
        for name, values in zip(Reference._fields, (logits.float(), labels, indices), strict=True):
            getattr(self, name).append(values)
        self.logits, self.labels, self.indices = ([values] for values in self._sample())

    def compute(self) -> Reference:
        """Return the sample over all processes, on the CPU."""
        return Reference(*(values.cpu() for values in self._sample()))

    def _sample(self) -> Reference:
        logits, labels, indices = (dim_zero_cat(getattr(self, name)) for name in Reference._fields)
        order = indices.argsort()
        order = order[hash_uniform(indices[order], key("label issues")).argsort(stable=True)][:_MAX_REFERENCE]
        return Reference(logits[order], labels[order], indices[order])


class LabelIssues(NamedTuple):
    """How suspicious the labels of N images are.

    scores: float32 (N,), the estimated probability of each label; the lowest is the most suspicious.
    suggested: int64 (N,), the most probable class.
    precision: float32 (N,), estimated share of wrong labels among those that both signals dispute and that are at least
        as suspicious; 0 for a label that they do not dispute.
    flagged: bool (N,), whether the label may be wrong.
    """

    scores: Tensor
    suggested: Tensor
    precision: Tensor
    flagged: Tensor


def find_label_issues(
    logits: Tensor, labels: Tensor, indices: Tensor, reference: Reference | None = None
) -> LabelIssues:
    """Rate how suspicious labels are, and flag those that may be wrong.

    A label is flagged only if both the network and the labels of similar images suggest another class, and its
    probability is so low that an estimated 75 % of the labels up to there are wrong. None is flagged by a network that
    agrees with fewer than half of the labels.

    Args:
        logits: float (N, C), of images that the network was not trained on.
        labels: int64 (N,), the given labels.
        indices: int64 (N,), by which an image is recognized among the reference images.
        reference: Images of the same kind; by default, a sample of the same ones.
    """
    if reference is None:
        sample = ReferenceSample()
        sample.update(logits, labels, indices)
        reference = sample.compute()
    # torchmetrics returns a single label as a number
    reference = reference._replace(labels=reference.labels.reshape(-1), indices=reference.indices.reshape(-1))
    temperature = min(
        _TEMPERATURES, key=lambda value: float(F.cross_entropy(reference.logits / value, reference.labels))
    )
    probs, disputed = _rate_labels(logits, labels, indices, reference, temperature)
    thresholds, precision = estimate_precision(*_rate_labels(*reference, reference, temperature), reference.labels)
    precision = precision * agrees_enough(reference.logits, reference.labels)
    scores = probs.gather(1, labels[:, None])[:, 0]
    passed = thresholds[precision >= _MIN_PRECISION]
    flagged = disputed & (scores <= (passed[-1] if len(passed) else -1))
    position = (torch.searchsorted(thresholds, scores, right=True) - 1).clamp(min=0)
    estimated = torch.where(disputed, F.pad(precision, (0, 1))[position], 0)
    return LabelIssues(scores, probs.argmax(1), estimated, flagged)


def _rate_labels(
    logits: Tensor, labels: Tensor, indices: Tensor, reference: Reference, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return each label's probability, float32 (N, C), and whether all signals dispute the given ones, bool (N,)."""
    network, neighbors = (logits / temperature).softmax(1), neighbor_shares(logits, indices, reference)
    probs = network.lerp(neighbors, _NEIGHBOR_WEIGHT)
    disputed = (torch.stack([network, neighbors, probs]).argmax(2) != labels).all(0)
    return probs, disputed


def neighbor_shares(logits: Tensor, indices: Tensor, reference: Reference) -> Tensor:
    """Return the share of each label among the reference images that the network sees most alike, float32 (N, C).

    Counted are the nearest ones by the angle between centered logits: the square root of their number, without the
    image itself. Penultimate features are no better, and training images are of no use: the network has learned their
    labels (benchmarks/RESULTS.md).

    Args:
        logits: float (N, C).
        indices: int64 (N,).
        reference: The images to compare with.
    """
    candidates, count = _directions(reference.logits), round(len(reference.labels) ** 0.5)
    results = []
    for rows in torch.arange(len(logits)).split(_BATCH):
        found, _ = nearest(_directions(logits[rows]), candidates, count + 1)
        counted = (reference.indices[found] != indices[rows, None]).float()  # all but the image itself
        counted[:, count:] *= counted.amin(1, keepdim=True) < 1  # without it, one too many was found
        shares = torch.zeros(logits[rows].shape).scatter_add_(1, reference.labels[found], counted)
        results.append(shares / counted.sum(1, keepdim=True).clamp(min=1))
    return torch.cat(results)


def _directions(logits: Tensor) -> Tensor:
    return F.normalize(logits - logits.mean(1, keepdim=True), dim=1)


def estimate_precision(probs: Tensor, disputed: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Estimate what share of the labels is wrong, among the disputed ones whose probability is at most a threshold.

    Suppose that labels are wrong at some rate, whatever the image. Then the disputed labels below a threshold are this
    rate of the images that would be below it with a random other label, plus the network's mistakes, which get rare
    as the threshold decreases. So the rate is at most the quotient of the two numbers at any threshold. Only thresholds
    that a certain share of the images would be below count, so that the quotient is not left to chance. If more labels
    seem to be wrong than right, the network is, and nothing can be said about the labels. If wrong labels are more
    frequent on difficult images, the estimate is too low.

    Args:
        probs: float (N, C), estimated probabilities of the labels.
        disputed: bool (N,), whether the signals speak against the given labels.
        labels: int64 (N,), the given labels.

    Returns:
        float (K,), the thresholds, ascending; float (K,), the estimated share of wrong labels below each.
    """
    agreed = probs.argmax(1) == labels
    thresholds = probs[disputed, labels[disputed]].sort().values
    others = probs[agreed].scatter(1, labels[agreed, None], torch.inf).flatten().sort().values
    below = torch.searchsorted(others, thresholds, right=True) / max(1, probs.shape[1] - 1)
    rates = torch.arange(1, len(thresholds) + 1) / below
    rate = F.pad(rates[below >= _MIN_SHARE * len(labels)], (0, 1), value=torch.inf).min()
    return thresholds, torch.where(rate < 1, rate / rates, 0).clamp(max=1)


def agrees_enough(logits: Tensor, labels: Tensor) -> bool:
    """Return whether the network agrees with enough labels int64 (N,) to tell which are wrong, by logits (N, C)."""
    return bool((logits.argmax(1) == labels).float().mean() >= _MIN_AGREED)
