"""Judging a trained classifier: its temperature, its mistakes, and the training images that explain them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from callbacks.calibration import TEMPERATURES, CalibrationByTemperature
from callbacks.label_errors import ConfidentThresholds, suspected
from cifar_lit.bundle import TrainedClassifier
from cifar_lit.data.batches import ImageDataset, LabelledImages
from cifar_lit.judged import Judged, worth_keeping
from space.progress import told
from space.similar import nearest_training

_EXPLAINED, _NEIGHBOURS = 300, 3  # mistakes that get neighbours, and how many
_BINS = 15  # of confidence, as many as the callback's


@dataclass(frozen=True)
class Images:
    """Images to judge by.

    split: ``val`` or ``test``.
    images: All images of the data set that they are of.
    rows: int64 (n,), which of them.
    """

    split: str
    images: LabelledImages
    rows: Tensor

    @property
    def labels(self) -> Tensor:
        """int64 (n,)."""
        return self.images.labels[self.rows]

    def batches(self, size: int) -> Iterator[Tensor]:
        """Pixels uint8 (N, 3, H, W), ``size`` images at a time."""
        for rows in self.rows.split(size):
            yield self.images.pixels[rows]


def calibrated(trained: TrainedClassifier, sets: Sequence[Images]) -> tuple[TrainedClassifier, dict[str, Tensor]]:
    """The classifier at the temperature that the first of the sets chooses (as it is, where there is none), and what it
    says of all: logits float32 (n, C) by split, which no temperature has divided."""
    logits = {part.split: logits_of(trained, part) for part in sets}
    if sets:
        temperature = chosen_temperature(logits[sets[0].split], sets[0].labels)
        trained = replace(trained, recipe=replace(trained.recipe, temperature=temperature))
    return trained, logits


def chosen_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature at which the loss of logits (N, C) is lowest."""
    losses, _ = _calibration(logits, labels).compute()
    return TEMPERATURES[int(losses.argmin())]


def logits_of(trained: TrainedClassifier, part: Images) -> Tensor:
    """What a classifier says of images: float32 (n, C)."""
    size = trained.batch_size
    batches = told(part.batches(size), f"Judging {part.split} images", math.ceil(len(part.rows) / size))
    return torch.cat([trained.logits(pixels).cpu() for pixels in batches])


def _calibration(logits: Tensor, labels: Tensor) -> CalibrationByTemperature:
    metric = CalibrationByTemperature(_BINS)
    for part, of_part in zip(logits.split(4096), labels.split(4096), strict=True):
        metric.update(part, of_part)
    return metric


def judged_by(part: Images, logits: Tensor, temperature: float, most: int) -> Judged:
    """The evaluation of logits (n, C) of these images, at a temperature; keeps at most so many mistakes."""
    labels, classes = part.labels, logits.shape[1]
    _, calibrations = _calibration(logits, labels).compute()
    pair = [calibrations[TEMPERATURES.index(value)] for value in (1.0, temperature)]
    kept = worth_keeping(logits / temperature, labels, most)
    probabilities, thresholds = logits.softmax(1), ConfidentThresholds(classes)
    thresholds.update(probabilities, labels)
    return Judged(
        split=part.split,
        loss=float(F.cross_entropy(logits, labels)),
        counts=torch.bincount(labels * classes + logits.argmax(1), minlength=classes**2).view(classes, classes),
        calibration=torch.stack([torch.stack(tuple(one)) for one in pair]).float(),
        pixels=part.images.pixels[part.rows[kept]],
        labels=labels[kept],
        logits=logits[kept],
        indices=part.rows[kept],
        doubtful=suspected(probabilities[kept], labels[kept], thresholds.compute()),
        neighbours=torch.zeros(len(kept), 0, dtype=torch.int64),
        similarities=torch.zeros(len(kept), 0),
        training_pixels=part.images.pixels[:0],
        training_labels=labels[:0],
    )


def with_neighbours(trained: TrainedClassifier, judged: Judged, train: ImageDataset, most: int) -> Judged:
    """The evaluation with, for the most confident mistakes, the training images that the network finds most alike.

    Args:
        trained: The classifier.
        judged: The evaluation.
        train: The training images, of which ``most``, taken evenly, are searched.
        most: How many.
    """
    wrong = (judged.predictions != judged.labels).nonzero()[:, 0]
    order = judged.confidences(trained.recipe.temperature)[wrong].argsort(descending=True, stable=True)
    asked = wrong[order][:_EXPLAINED]
    if not len(train) or not len(asked):
        return judged
    try:
        rows, alike = nearest_training(trained, judged.pixels[asked], train, most, _NEIGHBOURS)
    except ValueError:  # a network none of whose layers gives the logits
        return judged
    used, inverse = rows.unique(return_inverse=True)
    neighbours = torch.full((len(judged.labels), rows.shape[1]), -1)
    similarities = torch.zeros(neighbours.shape)
    neighbours[asked], similarities[asked] = inverse, alike
    return replace(
        judged,
        neighbours=neighbours,
        similarities=similarities,
        training_pixels=train.images.pixels[used],
        training_labels=train.images.labels[used],
    )
