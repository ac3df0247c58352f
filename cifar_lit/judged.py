"""How a trained classifier does on images that it never saw: what a bundle keeps of its evaluation."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cifar_lit.errors import InputError

OF_EACH_IMAGE = ("pixels", "labels", "logits", "indices", "doubtful", "neighbours", "similarities")
_PARTS = (*OF_EACH_IMAGE, "counts", "calibration", "training_pixels", "training_labels")


@dataclass(frozen=True)
class Judged:
    """An evaluation: the counts of all images, and those images of it that are worth a look.

    split: ``test`` or ``val``.
    loss: Mean cross-entropy over all images.
    counts: int64 (C, C), images of the row's class that were taken for the column's.
    calibration: float32 (2, 3, B), before and after temperature scaling, the confidence, the accuracy and the share of
        all images in each of B bins of confidence.
    pixels: uint8 (K, 3, H, W), of the kept images.
    labels, indices: int64 (K,), their true class, and their row of the data set.
    logits: float32 (K, C).
    doubtful: bool (K,), whether the label may be wrong.
    neighbours: int64 (K, n), for each the training images that the network finds most alike, as places in
        ``training_pixels``; -1 where none were sought.
    similarities: float32 (K, n), their cosine similarities.
    training_pixels: uint8 (M, 3, H, W), those of the neighbours.
    training_labels: int64 (M,).
    """

    split: str
    loss: float
    counts: Tensor
    calibration: Tensor
    pixels: Tensor
    labels: Tensor
    logits: Tensor
    indices: Tensor
    doubtful: Tensor
    neighbours: Tensor
    similarities: Tensor
    training_pixels: Tensor
    training_labels: Tensor

    @property
    def images(self) -> int:
        """How many images were judged."""
        return int(self.counts.sum())

    @property
    def errors(self) -> int:
        """How many of them were misclassified."""
        return self.images - int(self.counts.trace())

    @property
    def accuracy(self) -> float:
        """The share of them that was classified rightly."""
        return 1 - self.errors / self.images

    def confidences(self, temperature: float) -> Tensor:
        """float32 (K,), the probability of the predicted class of the kept images, at a temperature."""
        return (self.logits / temperature).softmax(1).amax(1)

    @property
    def predictions(self) -> Tensor:
        """int64 (K,), the predicted class of the kept images."""
        return self.logits.argmax(1)

    def by_class(self) -> list[tuple[int, float, float, float]]:
        """For each class, the number of its images, precision, recall and F1 score; 0 where they are undefined."""
        right, true, said = self.counts.diagonal().double(), self.counts.sum(1), self.counts.sum(0)
        precision, recall = right / said.clamp(min=1), right / true.clamp(min=1)
        f1 = 2 * right / (true + said).clamp(min=1)
        return list(zip(true.tolist(), precision.tolist(), recall.tolist(), f1.tolist(), strict=True))

    def calibration_errors(self) -> tuple[float, float]:
        """The expected calibration error before and after temperature scaling. Guo et al. 2017, eq. 3."""
        before, after = (float((share * (right - sure).abs()).sum()) for sure, right, share in self.calibration)
        return before, after

    def save(self, file: Path) -> None:
        """Writes it as safetensors."""
        tensors = {name: getattr(self, name).contiguous() for name in _PARTS}
        save_file(tensors, file, metadata={"split": self.split, "loss": repr(self.loss)})

    @classmethod
    def load(cls, file: Path) -> "Judged":
        """Reads it.

        Raises:
            InputError: if the file is not one that ``save`` wrote.
        """
        try:
            with safe_open(file, "pt") as opened:
                metadata = opened.metadata()
                tensors = {name: opened.get_tensor(name) for name in _PARTS}
            return cls(metadata["split"], float(metadata["loss"]), **tensors)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{file} holds no evaluation ({error}); export it again") from error


def worth_keeping(logits: Tensor, labels: Tensor, most: int, of_each_cell: int = 8) -> Tensor:
    """Which images of an evaluation to keep.

    Args:
        logits: float (N, C), of calibrated confidence.
        labels: int64 (N,).
        most: How many mistakes to keep, at most: first some of each cell of the confusion matrix, then the others, the
            most confident ones first.
        of_each_cell: How many mistakes of each cell come first, and how many right images of each class are kept
            besides, the least confident ones.

    Returns:
        int64, their rows, sorted.
    """
    confidence, predictions = logits.softmax(1).max(1)
    wrong = predictions != labels
    order = torch.where(wrong, confidence, -confidence).argsort(descending=True, stable=True)
    cells = (labels * logits.shape[1] + predictions)[order]
    by_cell = cells.argsort(stable=True)
    counts = torch.bincount(cells)
    rank = torch.empty_like(by_cell)  # of each image within its cell
    rank[by_cell] = torch.arange(len(cells)) - (counts.cumsum(0) - counts)[cells[by_cell]]
    ahead = rank < of_each_cell
    mistakes = order[wrong[order] & ahead].tolist() + order[wrong[order] & ~ahead].tolist()
    right = order[~wrong[order] & ahead].tolist()
    return torch.tensor(sorted(mistakes[:most] + right), dtype=torch.int64)


@dataclass(frozen=True)
class Unknown:
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


def fit_unknown(known: Mapping[str, Tensor], unknown: Mapping[str, Tensor], false_alarms: float = 0.05) -> Unknown:
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

    return Unknown(
        threshold,
        fitted_on,
        judged_on,
        share(known[judged_on]),
        {kind: share(logits) for kind, logits in unknown.items()},
    )


@dataclass(frozen=True)
class Facts:
    """What else a bundle tells of a run, as plain JSON.

    title: Of the classifier, for people.
    run: Facts by name, for people: the data, the seed, how long it was trained and so on.
    history: Curves by name (``train/loss``): pairs of step and value.
    unknown: See ``Unknown``; None where there were no images to fit it on.
    examples: The examples' files, and the controls that each sets.
    """

    title: str
    run: dict[str, str]
    history: dict[str, list[tuple[float, float]]]
    unknown: Unknown | None
    examples: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """As dicts, lists and scalars."""
        return asdict(self)

    @classmethod
    def of_json(cls, facts: Mapping[str, Any]) -> "Facts":
        """The facts of what ``to_json`` gave."""
        unknown = facts["unknown"]
        return cls(**{**facts, "unknown": Unknown(**unknown) if unknown else None})
