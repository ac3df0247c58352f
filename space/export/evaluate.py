"""Evaluate a trained classifier, select its heatmaps, and find the training images most similar to its mistakes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from callbacks.most_faithful_heatmap import select_heatmap
from callbacks.rendering.activations import feature_maps
from callbacks.rendering.class_activation_maps import Method, fast_methods
from cifar_lit.data.batches import ImageDataset, ImageTensors
from cifar_lit.errors import InputError
from cifar_lit.evaluation.calibration import TemperatureSweep
from cifar_lit.evaluation.label_issues import ReferenceSample, find_label_issues
from cifar_lit.evaluation.neighbors import evenly_spaced, features, nearest
from cifar_lit.evaluation.result import EvaluationResult, select_images_to_keep
from cifar_lit.evaluation.top_mistakes import rank_mistakes
from cifar_lit.inference.bundle import TrainedClassifier
from cifar_lit.progress import with_progress

_HEATMAP_IMAGES = 64  # to select the layer and the method on
_MAX_QUERIES, _NEIGHBORS = 300, 3  # mistakes with neighbors, and neighbors per mistake


@dataclass(frozen=True)
class EvaluationSplit:
    """Images to evaluate on.

    name: ``val`` or ``test``.
    images: All images of the dataset that contains them.
    rows: int64 (n,), the rows of ``images`` to evaluate on.
    """

    name: str
    images: ImageTensors
    rows: Tensor

    @property
    def labels(self) -> Tensor:
        """int64 (n,)."""
        return self.images.labels[self.rows]

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield pixels uint8 (N, 3, H, W), ``size`` images at a time."""
        for rows in self.rows.split(size):
            yield self.images.pixels[rows]


def compute_logits(classifier: TrainedClassifier, split: EvaluationSplit) -> Tensor:
    """Return the logits of a split, float32 (n, C), on the CPU."""
    chunks = with_progress(split.rows.split(classifier.batch_size), f"Evaluating {split.name} images")
    return torch.cat([classifier.logits(split.images.pixels[rows]).cpu() for rows in chunks])


def evaluate_images(split: EvaluationSplit, logits: Tensor, temperature: float, max_mistakes: int) -> EvaluationResult:
    """Return the evaluation result of a split, without neighbors.

    Args:
        split: The images.
        logits: float32 (n, C), not divided by the temperature.
        temperature: For calibrated confidences.
        max_mistakes: Maximum number of mistakes to keep.
    """
    labels, classes = split.labels, logits.shape[1]
    sweep, sample = TemperatureSweep(), ReferenceSample()
    sweep.update(logits, labels)
    sample.update(logits, labels, split.rows)
    calibrations = [torch.stack(sweep.calibration_at(value)) for value in (1.0, temperature)]
    kept = select_images_to_keep(logits / temperature, labels, max_mistakes)
    return EvaluationResult(
        split=split.name,
        loss=float(F.cross_entropy(logits, labels)),
        counts=torch.bincount(labels * classes + logits.argmax(1), minlength=classes**2).view(classes, classes),
        calibration=torch.stack(calibrations).float(),
        pixels=split.images.pixels[split.rows[kept]],
        labels=labels[kept],
        logits=logits[kept],
        indices=split.rows[kept],
        label_issue=find_label_issues(logits[kept], labels[kept], split.rows[kept], sample.compute()).flagged,
        neighbors=torch.zeros(len(kept), 0, dtype=torch.int64),
        training_pixels=split.images.pixels[:0],
        training_labels=labels[:0],
    )


def with_neighbors(
    classifier: TrainedClassifier, result: EvaluationResult, train_set: ImageDataset, max_images: int
) -> EvaluationResult:
    """Return the result with the nearest training images of the most confident mistakes.

    Args:
        classifier: The classifier.
        result: Its evaluation result.
        train_set: The training images.
        max_images: Maximum number of training images to search, evenly spaced.
    """
    wrong = result.predictions != result.labels
    ranked = rank_mistakes(result.confidences(classifier.recipe.temperature), wrong)
    queries = ranked[: min(_MAX_QUERIES, int(wrong.sum()))]
    if not len(train_set) or not len(queries):
        return result
    images, size = train_set.images, classifier.batch_size
    rows = evenly_spaced(train_set.rows.cpu(), max_images)
    try:
        candidates = features(classifier.network, EvaluationSplit("train", images, rows).batches(size))
        found, _ = nearest(features(classifier.network, result.pixels[queries].split(size)), candidates, _NEIGHBORS)
    except InputError:  # the network has no penultimate features
        return result
    used, inverse = rows[found].unique(return_inverse=True)
    neighbors = torch.full((len(result.labels), found.shape[1]), -1)
    neighbors[queries] = inverse
    return replace(
        result,
        neighbors=neighbors,
        training_pixels=images.pixels[used],
        training_labels=images.labels[used],
    )


def default_heatmap(
    classifier: TrainedClassifier, split: EvaluationSplit | None, layer: str | None, method: Method | None
) -> tuple[str, Method]:
    """Return the layer and the method whose heatmaps are the most faithful; the layer is empty if there are none.

    Args:
        classifier: The classifier.
        split: The images to measure it on; without them, the last layer and Grad-CAM.
        layer: The layer, if it is already chosen.
        method: The method, if it is already chosen.

    Raises:
        InputError: If the network has no such layer, or the method does not work for it.
    """
    network = classifier.network
    pixels = torch.zeros(1, 3, *classifier.recipe.image_size, dtype=torch.uint8)
    if split is not None:
        count = min(_HEATMAP_IMAGES, classifier.batch_size)
        pixels = split.images.pixels[split.rows[evenly_spaced(torch.arange(len(split.rows)), count)]]
    inputs = network.preprocess(pixels.to(classifier.device))
    found = list(feature_maps(network.net, inputs))
    if layer is not None and layer not in found:
        raise InputError(f"--layer {layer}: the network's feature maps are {', '.join(found) or 'none'}")
    default, methods = layer or (found[-1] if found else ""), fast_methods(network.net, inputs)
    if method is not None and method not in methods:
        raise InputError(f"--method {method}: the methods for this network are {', '.join(methods)}")
    if found and split is not None and not (layer and method):
        try:
            candidates = methods if method is None else [method]
            measured = with_progress(candidates, "Selecting the heatmaps")
            return select_heatmap(network.net, inputs, None if layer is None else [layer], measured)
        except ValueError:  # the network disables gradients
            pass
    return default, method or "gradcam"
