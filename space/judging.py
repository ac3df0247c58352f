"""Judging a trained classifier for export: all its mistakes, its calibration, and what it makes of unknown images."""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

from callbacks.calibration import TEMPERATURES, CalibrationByTemperature
from cifar_lit.bundle import TrainedClassifier
from cifar_lit.data.batches import LabelledImages
from cifar_lit.judged import Judged, Unknown, fit_unknown, worth_keeping
from space.unknown_images import unknown_images

_BATCH = 256
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

    def batches(self) -> Iterator[Tensor]:
        """Pixels uint8 (N, 3, H, W)."""
        for rows in self.rows.split(_BATCH):
            yield self.images.pixels[rows]


def judge(
    trained: TrainedClassifier, sets: Sequence[Images], most: int
) -> tuple[TrainedClassifier, Judged | None, Unknown | None]:
    """Judges a classifier, after choosing its temperature.

    Args:
        trained: The classifier.
        sets: Images by split; the first one chooses temperature and threshold, the last one judges. May be empty.
        most: How many mistakes to keep, at most.

    Returns:
        The classifier at that temperature, how it was judged, and when an image is probably none of the classes.
    """
    if not sets:
        return trained, None, None
    logits = {part.split: _logits(trained, part) for part in sets}
    chosen = _calibration(logits[sets[0].split], sets[0].labels)
    losses, _ = chosen.compute()
    temperature = TEMPERATURES[int(losses.argmin())]
    trained = replace(trained, recipe=replace(trained.recipe, temperature=temperature))
    last = sets[-1]
    judged = _judged(last, logits[last.split], temperature, most)
    kinds = unknown_images(256, trained.recipe.image_size, trained.recipe.class_names)
    unknown = {
        kind: torch.cat([trained.logits(part) for part in pixels.split(_BATCH)]).cpu() for kind, pixels in kinds.items()
    }
    return trained, judged, fit_unknown(logits, unknown)


def _logits(trained: TrainedClassifier, part: Images) -> Tensor:
    """float32 (n, C)."""
    total = math.ceil(len(part.rows) / _BATCH)
    batches = track(
        part.batches(), f"Judging {part.split} images", total, transient=True, disable=not sys.stdout.isatty()
    )
    return torch.cat([trained.logits(pixels).cpu() for pixels in batches])


def _calibration(logits: Tensor, labels: Tensor) -> CalibrationByTemperature:
    metric = CalibrationByTemperature(_BINS)
    for part, of_part in zip(logits.split(4096), labels.split(4096), strict=True):
        metric.update(part, of_part)
    return metric


def _judged(part: Images, logits: Tensor, temperature: float, most: int) -> Judged:
    labels, classes = part.labels, logits.shape[1]
    _, calibrations = _calibration(logits, labels).compute()
    pair = [calibrations[TEMPERATURES.index(value)] for value in (1.0, temperature)]
    kept = worth_keeping(logits / temperature, labels, most)
    return Judged(
        split=part.split,
        loss=float(F.cross_entropy(logits, labels)),
        counts=torch.bincount(labels * classes + logits.argmax(1), minlength=classes**2).view(classes, classes),
        calibration=torch.stack([torch.stack(tuple(one)) for one in pair]).float(),
        pixels=part.images.pixels[part.rows[kept]],
        labels=labels[kept],
        logits=logits[kept],
        indices=part.rows[kept],
    )
