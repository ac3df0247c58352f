"""How good a classifier is on images that something happened to."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from callbacks.rendering.charts import lines_chart
from cifar_lit.evaluation.corruptions import EXTRA, KINDS, SEVERITIES, corrupted
from cifar_lit.evaluation.significance import wilson
from cifar_lit.inference.bundle import TrainedClassifier
from report.document import Document
from report.results import pixels_of
from space.export.progress import with_progress
from space.export.run_data import RunData

_BATCH = 128  # of which float copies are made


@dataclass(frozen=True)
class Robustness:
    """Accuracy under common corruptions.

    images: How many were corrupted.
    clean: Accuracy on the same images as they are.
    accuracy: float (K, 5), of each kind at each severity.
    kinds: The K kinds.
    """

    images: int
    clean: float
    accuracy: np.ndarray
    kinds: tuple[str, ...] = KINDS

    @property
    def mean_error(self) -> float:
        """The mean corruption error, over severities and the kinds that are in CIFAR-10-C's own mean (11 of its 15),
        not divided by another network's (as is usual for CIFAR-10-C)."""
        return 1 - float(self.accuracy[[kind not in EXTRA for kind in self.kinds]].mean())


def robustness(trained: TrainedClassifier, pixels: Tensor, labels: Tensor, seed: int = 0) -> Robustness:
    """Judges a classifier by corrupted images.

    Args:
        trained: The classifier.
        pixels: uint8 (N, 3, H, W).
        labels: int64 (N,).
        seed: Of the corruptions.
    """
    clean, right = 0, np.zeros((len(KINDS), SEVERITIES), np.int64)
    parts = -(-len(pixels) // _BATCH)
    for kind, severity, images, of_part in with_progress(
        _corrupted_parts(pixels, labels, seed), "Judging corrupted images", parts * (1 + right.size)
    ):
        logits = trained.logits(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous())
        count = int((logits.argmax(1).cpu() == of_part).sum())
        if severity == 0:
            clean += count
        else:
            right[kind, severity - 1] += count
    return Robustness(len(pixels), clean / len(pixels), right / len(pixels))


def _corrupted_parts(pixels: Tensor, labels: Tensor, seed: int) -> Iterator[tuple[int, int, np.ndarray, Tensor]]:
    """Kind (its place in ``KINDS``), severity (0: as they are), images uint8 (n, H, W, 3) and their labels."""
    for number, (part, of_part) in enumerate(zip(pixels.split(_BATCH), labels.split(_BATCH), strict=True)):
        images = part.permute(0, 2, 3, 1).numpy()
        yield 0, 0, images, of_part
        for place, kind in enumerate(KINDS):
            for severity in range(1, SEVERITIES + 1):
                yield place, severity, corrupted(images, kind, severity, seed + number), of_part


def write_robustness(document: Document, evidence: RunData, most: int, seed: int) -> None:
    """Accuracy under common corruptions, of so many images at most."""
    document.heading("Corrupted images")
    if not evidence.sets or most == 0:
        document.missing("Robustness", "there are no images at hand" if most else "--robustness_images is 0")
        return
    last = evidence.last
    chosen = torch.randperm(len(last.rows), generator=torch.Generator().manual_seed(seed))[:most].sort().values
    found = robustness(evidence.trained, pixels_of(evidence, chosen), last.labels[chosen], seed)
    rows = [
        [kind, *(f"{value:.1%}" for value in accuracy), f"{1 - accuracy.mean():.1%}"]
        for kind, accuracy in zip(found.kinds, found.accuracy, strict=True)
    ]
    low, high = wilson(round(found.clean * found.images), found.images)
    document.text(
        f"Accuracy on {found.images:,} {last.split} images, which is {found.clean:.1%} as they are (95 % interval"
        f" {low:.1%} to {high:.1%}), with corruptions of CIFAR-10-C"
        " ([Hendrycks & Dietterich 2019](https://arxiv.org/abs/1903.12261)) at five severities. **Mean corruption"
        f" error: {found.mean_error:.1%}**, over 11 of the 15 kinds of the published mean: glass blur, snow, frost and"
        f" elastic are not made here, and {', '.join(EXTRA)} do not count in it. It is not divided by that of another"
        " network."
    )
    document.table(["corruption", *map(str, range(1, 6)), "mean error"], rows)
    curves = {
        kind: [found.clean, *accuracy] for kind, accuracy in zip(found.kinds, found.accuracy.tolist(), strict=True)
    }
    picture = lines_chart(curves, range(6), ("severity (0: as it is)", "accuracy"), (0, 1), columns=5)
    document.picture("robustness", picture, "Accuracy against severity for each corruption")
