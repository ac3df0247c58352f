"""Evaluation results of a trained classifier, as a bundle stores them."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cifar_lit.errors import InputError
from cifar_lit.evaluation.top_mistakes import rank_mistakes

PER_IMAGE = ("pixels", "labels", "logits", "indices", "label_issue", "neighbors")
_TENSORS = (*PER_IMAGE, "counts", "calibration", "training_pixels", "training_labels")


class Calibration(NamedTuple):
    """Confidence against accuracy, in B bins of confidence.

    confidence, accuracy: float (B,), means over the images in each bin.
    share: float (B,), each bin's share of all images.
    """

    confidence: Tensor
    accuracy: Tensor
    share: Tensor

    @property
    def error(self) -> float:
        """The expected calibration error (ECE), Guo et al. 2017, arXiv:1706.04599, eq. 3."""
        return float((self.share * (self.accuracy - self.confidence).abs()).sum())


@dataclass(frozen=True)
class EvaluationResult:
    """Statistics over all evaluated images, and a selection of K images to look at.

    split: ``test`` or ``val``.
    loss: Mean cross-entropy over all images.
    counts: int64 (C, C), number of images by true class (row) and predicted class (column).
    calibration: float32 (2, 3, B), a ``Calibration`` before and one after temperature scaling.
    pixels: uint8 (K, 3, H, W).
    labels, indices: int64 (K,), the true classes, and rows of the dataset.
    logits: float32 (K, C).
    label_issue: bool (K,), whether the label may be wrong.
    neighbors: int64 (K, n), the most similar training images, as rows of ``training_pixels``; -1 where not searched.
    training_pixels: uint8 (M, 3, H, W), the neighbors' pixels.
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
    label_issue: Tensor
    neighbors: Tensor
    training_pixels: Tensor
    training_labels: Tensor

    @property
    def images(self) -> int:
        """Number of evaluated images."""
        return int(self.counts.sum())

    @property
    def errors(self) -> int:
        """Number of misclassified images."""
        return self.images - int(self.counts.trace())

    @property
    def accuracy(self) -> float:
        """Share of correctly classified images."""
        return 1 - self.errors / self.images

    def confidences(self, temperature: float) -> Tensor:
        """Return float32 (K,), the probabilities of the predicted classes at a temperature."""
        return (self.logits / temperature).softmax(1).amax(1)

    @property
    def predictions(self) -> Tensor:
        """int64 (K,), the predicted classes."""
        return self.logits.argmax(1)

    def calibration_errors(self) -> tuple[float, float]:
        """Return the expected calibration error before and after temperature scaling."""
        before, after = (Calibration(*bins).error for bins in self.calibration)
        return before, after

    def save(self, file: Path) -> None:
        """Write the result as safetensors."""
        tensors = {name: getattr(self, name).contiguous() for name in _TENSORS}
        file.write_bytes(save(tensors, metadata={"split": self.split, "loss": repr(self.loss)}))

    @classmethod
    def load(cls, file: Path) -> "EvaluationResult":
        """Read a saved result.

        Raises:
            InputError: if the file was not written by ``save``.
        """
        try:
            with safe_open(file, "pt") as opened:
                metadata = opened.metadata()
                tensors = {name: opened.get_tensor(name) for name in _TENSORS}
            return cls(metadata["split"], float(metadata["loss"]), **tensors)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{file} is not a valid evaluation result ({error}); export it again") from error


def select_images_to_keep(logits: Tensor, labels: Tensor, max_mistakes: int, per_cell: int = 8) -> Tensor:
    """Return the rows of the evaluated images to store in a bundle, int64, sorted.

    Args:
        logits: float (N, C), divided by the temperature.
        labels: int64 (N,).
        max_mistakes: Number of mistakes to keep, at most: ``per_cell`` of each cell of the confusion matrix first, then
            the others, the most confident first.
        per_cell: Also the number of correct images of each class to keep, the least confident first.
    """
    confidence, predicted = logits.softmax(1).max(1)
    wrong = predicted != labels
    order = rank_mistakes(confidence, wrong)
    cells = (labels * logits.shape[1] + predicted)[order]
    by_cell = cells.argsort(stable=True)
    counts = torch.bincount(cells)
    rank_in_cell = torch.empty_like(by_cell)
    rank_in_cell[by_cell] = torch.arange(len(cells)) - (counts.cumsum(0) - counts)[cells[by_cell]]
    early, wrong = rank_in_cell < per_cell, wrong[order]
    mistakes = torch.cat([order[wrong & early], order[wrong & ~early]])[:max_mistakes]
    return torch.cat([mistakes, order[~wrong & early]]).sort().values
