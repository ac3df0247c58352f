"""Judging a trained classifier: its temperature, its mistakes, and the training images that explain them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cifar_lit.data.batches import ImageDataset, ImageTensors
from cifar_lit.evaluation.calibration import TemperatureSweep
from cifar_lit.evaluation.label_issues import ConfidentThresholds, is_label_issue
from cifar_lit.evaluation.neighbors import nearest_training_images
from cifar_lit.evaluation.result import EvaluationResult, select_images_to_keep
from cifar_lit.inference.bundle import TrainedClassifier
from space.export.progress import with_progress

_EXPLAINED, _NEIGHBOURS = 300, 3  # mistakes that get neighbors, and how many


@dataclass(frozen=True)
class Images:
    """Images to judge by.

    split: ``val`` or ``test``.
    images: All images of the data set that they are of.
    rows: int64 (n,), which of them.
    """

    split: str
    images: ImageTensors
    rows: Tensor

    @property
    def labels(self) -> Tensor:
        """int64 (n,)."""
        return self.images.labels[self.rows]

    def batches(self, size: int) -> Iterator[Tensor]:
        """Pixels uint8 (N, 3, H, W), ``size`` images at a time."""
        for rows in self.rows.split(size):
            yield self.images.pixels[rows]


def logits_of(trained: TrainedClassifier, part: Images) -> Tensor:
    """What a classifier says of images: float32 (n, C)."""
    size = trained.batch_size
    batches = with_progress(part.batches(size), f"Judging {part.split} images", math.ceil(len(part.rows) / size))
    return torch.cat([trained.logits(pixels).cpu() for pixels in batches])


def _sweep(logits: Tensor, labels: Tensor) -> TemperatureSweep:
    metric = TemperatureSweep()
    for part, of_part in zip(logits.split(4096), labels.split(4096), strict=True):
        metric.update(part, of_part)
    return metric


def judged_by(part: Images, logits: Tensor, temperature: float, most: int) -> EvaluationResult:
    """The evaluation of logits (n, C) of these images, at a temperature; keeps at most so many mistakes."""
    labels, classes = part.labels, logits.shape[1]
    sweep = _sweep(logits, labels)
    pair = [sweep.calibration_at(value) for value in (1.0, temperature)]
    kept = select_images_to_keep(logits / temperature, labels, most)
    probabilities, thresholds = logits.softmax(1), ConfidentThresholds(classes)
    thresholds.update(probabilities, labels)
    return EvaluationResult(
        split=part.split,
        loss=float(F.cross_entropy(logits, labels)),
        counts=torch.bincount(labels * classes + logits.argmax(1), minlength=classes**2).view(classes, classes),
        calibration=torch.stack([torch.stack(tuple(one)) for one in pair]).float(),
        pixels=part.images.pixels[part.rows[kept]],
        labels=labels[kept],
        logits=logits[kept],
        indices=part.rows[kept],
        doubtful=is_label_issue(probabilities[kept], labels[kept], thresholds.compute()),
        neighbors=torch.zeros(len(kept), 0, dtype=torch.int64),
        similarities=torch.zeros(len(kept), 0),
        training_pixels=part.images.pixels[:0],
        training_labels=labels[:0],
    )


def with_neighbours(
    trained: TrainedClassifier, judged: EvaluationResult, train: ImageDataset, most: int
) -> EvaluationResult:
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
        rows, alike = nearest_training_images(
            trained.network, judged.pixels[asked], train.images.pixels, train.rows, most, _NEIGHBOURS
        )
    except ValueError:  # a network none of whose layers gives the logits
        return judged
    used, inverse = rows.unique(return_inverse=True)
    neighbors = torch.full((len(judged.labels), rows.shape[1]), -1)
    similarities = torch.zeros(neighbors.shape)
    neighbors[asked], similarities[asked] = inverse, alike
    return replace(
        judged,
        neighbors=neighbors,
        similarities=similarities,
        training_pixels=train.images.pixels[used],
        training_labels=train.images.labels[used],
    )
