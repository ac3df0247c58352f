"""Statistics of a confusion matrix: scores of each class, and the most confused pairs."""

from typing import NamedTuple

from torch import Tensor


class ClassScores(NamedTuple):
    """Scores of one class; 0 where undefined.

    images: Number of images of the class.
    precision, recall, f1: In [0, 1].
    """

    images: int
    precision: float
    recall: float
    f1: float


class ConfusedPair(NamedTuple):
    """Images of one class that are classified as another.

    true, predicted: Indices of the classes.
    images: Number of such images.
    share: Their share of the true class's images, in (0, 1].
    """

    true: int
    predicted: int
    images: int
    share: float


def class_scores(counts: Tensor) -> list[ClassScores]:
    """Return the scores of each class.

    Args:
        counts: int64 (C, C), number of images by true class (row) and predicted class (column).
    """
    correct, true, predicted = counts.diagonal().double(), counts.sum(1), counts.sum(0)
    precision, recall = correct / predicted.clamp(min=1), correct / true.clamp(min=1)
    f1 = 2 * correct / (true + predicted).clamp(min=1)
    columns = (true.tolist(), precision.tolist(), recall.tolist(), f1.tolist())
    return [ClassScores(*row) for row in zip(*columns, strict=True)]


def most_confused_pairs(counts: Tensor, max_pairs: int = 10) -> list[ConfusedPair]:
    """Return the pairs of classes with the most mistakes, in descending order.

    Args:
        counts: int64 (C, C), number of images by true class (row) and predicted class (column).
        max_pairs: Maximum number of pairs to return.

    >>> import torch
    >>> most_confused_pairs(torch.tensor([[5, 5], [3, 4]]), max_pairs=1)
    [ConfusedPair(true=0, predicted=1, images=5, share=0.5)]
    """
    mistakes = counts - counts.diagonal().diag()
    order = mistakes.flatten().argsort(descending=True, stable=True)[:max_pairs].tolist()
    cells = [divmod(index, len(counts)) for index in order]
    images = counts.sum(1).tolist()
    pairs = [(true, predicted, int(mistakes[true, predicted])) for true, predicted in cells]
    return [ConfusedPair(*pair, pair[2] / images[pair[0]]) for pair in pairs if pair[2] > 0]
