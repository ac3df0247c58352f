"""Classify image files."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch

from cifar_lit.errors import InputError
from cifar_lit.inference.bundle import TrainedClassifier
from cifar_lit.inference.images import read_image


class Prediction(NamedTuple):
    """The most likely classes of an image file.

    file: The image.
    classes: Names of the classes with their calibrated probabilities, the most likely first.
    is_ood: Whether the image may be none of the classes; None if no threshold was fitted.
    """

    file: Path
    classes: list[tuple[str, float]]
    is_ood: bool | None


def predict_files(
    classifier: TrainedClassifier,
    files: Sequence[Path],
    top_k: int,
    batch_size: int,
    on_unreadable: Callable[[InputError], None],
) -> Iterator[list[Prediction]]:
    """Classify image files batch by batch.

    Args:
        classifier: The trained classifier.
        files: The images.
        top_k: Number of classes per image.
        batch_size: Number of files per batch.
        on_unreadable: Called with the error for each unreadable file, which is skipped.

    Yields:
        The predictions of each batch, in the order of the files.
    """
    resizing, names = classifier.recipe.resizing, classifier.recipe.class_names

    def read(path: Path) -> torch.Tensor | None:
        try:
            return torch.from_numpy(read_image(path, resizing).copy()).permute(2, 0, 1)  # (3, H, W)
        except InputError as error:
            on_unreadable(error)
            return None

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files), batch_size):
            batch = files[start : start + batch_size]
            images = [
                (path, pixels) for path, pixels in zip(batch, pool.map(read, batch), strict=True) if pixels is not None
            ]
            if not images:
                yield []
                continue
            batch_pixels = torch.stack([pixels for _, pixels in images])
            logits, threshold = classifier.logits(batch_pixels), classifier.recipe.ood_threshold
            scores = classifier.ood_scores(logits, batch_pixels.split(classifier.batch_size))
            is_ood = [None] * len(logits) if threshold is None else (scores < threshold).tolist()
            top = (logits / classifier.recipe.temperature).softmax(1).topk(top_k)
            columns = images, top.indices.tolist(), top.values.tolist(), is_ood
            yield [
                Prediction(path, list(zip([names[label] for label in labels], probabilities, strict=True)), flag)
                for (path, _), labels, probabilities, flag in zip(*columns, strict=True)
            ]
