"""How a trained classifier does on images that it never saw: what a bundle keeps of its evaluation."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cifar_lit.errors import InputError

OF_EACH_IMAGE = ("pixels", "labels", "logits", "indices", "doubtful", "neighbors", "similarities")
_PARTS = (*OF_EACH_IMAGE, "counts", "calibration", "training_pixels", "training_labels")


@dataclass(frozen=True)
class EvaluationResult:
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
    neighbors: int64 (K, n), for each the training images that the network finds most alike, as places in
        ``training_pixels``; -1 where none were sought.
    similarities: float32 (K, n), their cosine similarities.
    training_pixels: uint8 (M, 3, H, W), those of the neighbors.
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
    neighbors: Tensor
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

    def calibration_errors(self) -> tuple[float, float]:
        """The expected calibration error before and after temperature scaling. Guo et al. 2017, eq. 3."""
        before, after = (float((share * (right - sure).abs()).sum()) for sure, right, share in self.calibration)
        return before, after

    def save(self, file: Path) -> None:
        """Writes it as safetensors."""
        tensors = {name: getattr(self, name).contiguous() for name in _PARTS}
        save_file(tensors, file, metadata={"split": self.split, "loss": repr(self.loss)})

    @classmethod
    def load(cls, file: Path) -> "EvaluationResult":
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


def select_images_to_keep(logits: Tensor, labels: Tensor, most: int, of_each_cell: int = 8) -> Tensor:
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
