"""Bundles: a trained classifier on disk without its training code, as JSON and safetensors."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from cifar_lit import models
from cifar_lit.errors import InputError
from cifar_lit.evaluation.neighbors import features
from cifar_lit.evaluation.ood import SCORES, OODScore, knn
from cifar_lit.inference.images import Fit, Interpolation, Resizing
from cifar_lit.inference.model import CPU_BATCH, InferenceModel
from cifar_lit.models import PixelNormalization
from cifar_lit.models.factory import build_network

_FORMAT = 1  # increment when the format changes
_MAX_BATCH, _MAX_BATCH_PIXELS = 256, 2**24
_RECIPE, _WEIGHTS, _TRAINING_FEATURES = "recipe.json", "weights.safetensors", "training_features.safetensors"


@dataclass(frozen=True)
class Recipe:
    """Everything about a trained classifier except its weights.

    net: The network's ``class_path``, ``init_args`` and ``dict_kwargs``.
    class_names: The classes; a label is an index into this list.
    image_size: Height and width of the network's images.
    fit, interpolation: How other images are resized; see ``cifar_lit.inference.images.Resizing``.
    mean, std: Mean and standard deviation of each channel, in [0, 1], for normalization.
    flip_tta, translate_tta, adaptive_tta: Test-time augmentation; see ``cifar_lit.inference.model``.
    temperature: Divisor of the logits for calibrated confidences.
    ood_score: Score that is low for images of none of the classes; see ``cifar_lit.evaluation.ood``.
    ood_threshold: Score below which an image may be none of the classes; None without validation images.
    """

    net: dict[str, Any]
    class_names: list[str]
    image_size: tuple[int, int]
    mean: list[float]
    std: list[float]
    fit: Fit = "crop"
    interpolation: Interpolation = "bilinear"
    flip_tta: bool = False
    translate_tta: int = 0
    adaptive_tta: bool = False
    temperature: float = 1.0
    ood_score: OODScore = "energy"
    ood_threshold: float | None = None

    @property
    def resizing(self) -> Resizing:
        """How images are resized."""
        return Resizing(self.image_size, self.fit, self.interpolation)

    def build(self) -> InferenceModel:
        """Return the classifier with fresh weights; raises what ``build_network`` raises."""
        normalize = PixelNormalization(self.mean, self.std)
        return InferenceModel(normalize, build_network(self.net), self.flip_tta, self.translate_tta, self.adaptive_tta)


@dataclass(frozen=True)
class TrainedClassifier:
    """A trained classifier in evaluation mode, float32, without gradients.

    training_features: float32 (M, F), of training images, if the k-NN score detects unknown images; otherwise None.
    """

    recipe: Recipe
    network: InferenceModel
    training_features: Tensor | None = None

    @classmethod
    def from_weights(cls, recipe: Recipe, weights: Mapping[str, Tensor]) -> "TrainedClassifier":
        """Build the classifier and load its weights.

        Raises:
            InputError: if the network cannot be built, or the weights do not fit it.
        """
        try:
            _check_fit(recipe, weights)
            network = recipe.build()
            network.load_state_dict(weights)
        except (ImportError, AttributeError, TypeError, KeyError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:500]
            raise InputError(f"its network {recipe.net.get('class_path')} cannot be built ({reason})") from error
        network.float().to(memory_format=torch.channels_last)
        return cls(recipe, network.eval().requires_grad_(False))

    @torch.inference_mode()
    def logits(self, pixels: Tensor, use_tta: bool = True) -> Tensor:
        """Return logits float32 (N, classes), on the network's device, for pixels uint8 (N, 3, H, W).

        Test-time augmentation can be left out, if it is configured.
        """
        forward = self.network if use_tta else self.network.single_view
        return torch.cat([forward(batch.to(self.device)) for batch in pixels.split(self.batch_size)])

    def ood_scores(self, logits: Tensor, batches: Iterable[Tensor]) -> Tensor:
        """Return the scores float (N,) that are low for images of none of the classes.

        Args:
            logits: float (N, C), of the images.
            batches: Their pixels uint8 (n, 3, H, W), N images in all; read only for the k-NN score.
        """
        if self.recipe.ood_score != "knn":
            return SCORES[self.recipe.ood_score](logits)
        assert self.training_features is not None
        return knn(features(self.network, batches), self.training_features)

    @property
    def batch_size(self) -> int:
        """Number of images per forward pass, fewer if they are large."""
        height, width = self.recipe.image_size
        max_batch = CPU_BATCH if self.device.type == "cpu" else _MAX_BATCH
        return max(1, min(max_batch, _MAX_BATCH_PIXELS // (height * width)))

    @property
    def device(self) -> torch.device:
        """The network's device."""
        return next(self.network.parameters()).device


def _check_fit(recipe: Recipe, weights: Mapping[str, Tensor]) -> None:
    """Raise RuntimeError if the weights do not fit the network, before allocating its memory.

    A network that reads tensor values in its constructor cannot be built on the meta device, and is not checked.
    """
    try:
        with torch.device("meta"):
            network = recipe.build()
    except (RuntimeError, ValueError, TypeError):
        return
    network.load_state_dict(weights, assign=True)


def write_bundle(
    folder: Path, recipe: Recipe, weights: Mapping[str, Tensor], training_features: Tensor | None = None
) -> None:
    """Write a trained classifier to a folder; see ``TrainedClassifier``."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": _FORMAT, **asdict(recipe)}, indent=2, ensure_ascii=False)
    (folder / _RECIPE).write_text(text + "\n", encoding="utf-8")
    # With the permissions of the other files, unlike save_file
    (folder / _WEIGHTS).write_bytes(save({name: tensor.clone().contiguous() for name, tensor in weights.items()}))
    if training_features is not None:
        (folder / _TRAINING_FEATURES).write_bytes(save({"features": training_features.half()}))


def read_bundle(folder: Path, trusted: Sequence[str] = ()) -> TrainedClassifier:
    """Read a trained classifier from a folder, without running code in it.

    Args:
        folder: Written by ``write_bundle``.
        trusted: Import paths that the recipe may name in addition to the networks of ``cifar_lit.models``. They are
            imported and called: list only code you trust.

    Raises:
        InputError: if the bundle is damaged, or names a network that is not trusted.
    """
    try:
        settings = json.loads((folder / _RECIPE).read_text(encoding="utf-8"))
        if settings.pop("format") != _FORMAT:
            raise ValueError("it has another format version")
        recipe = Recipe(**{**settings, "image_size": tuple(settings["image_size"])})
        _check_values(recipe)
        if unknown := sorted(set(class_paths(recipe.net)) - own_networks() - set(trusted)):
            raise ValueError(f"its network {', '.join(unknown)} is not trusted")
        classifier = TrainedClassifier.from_weights(recipe, load_file(folder / _WEIGHTS))
        if recipe.ood_score != "knn":
            return classifier
        training_features = load_file(folder / _TRAINING_FEATURES)["features"].float()
        if training_features.ndim != 2 or not len(training_features):
            raise ValueError(f"its training features have the shape {tuple(training_features.shape)}")
        return replace(classifier, training_features=training_features)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError, InputError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder} is not an intact bundle ({reason}); export it again") from error


def _check_values(recipe: Recipe) -> None:
    """Raise ValueError or TypeError for values that no training writes."""
    names = recipe.class_names
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("its class names are not a list of texts")
    height, width = recipe.image_size
    if not (isinstance(height, int) and isinstance(width, int) and min(height, width) > 0):
        raise ValueError(f"its image size is {height}x{width}")
    if height * width > _MAX_BATCH_PIXELS:
        raise ValueError(f"its images of {height}x{width} pixels are too large")
    for name, allowed in (("fit", Fit), ("interpolation", Interpolation), ("ood_score", OODScore)):
        if getattr(recipe, name) not in get_args(allowed):
            raise ValueError(f"its {name} is {getattr(recipe, name)!r}")
    for numbers in (recipe.mean, recipe.std):
        if len(numbers) != 3 or not all(math.isfinite(number) for number in numbers):
            raise ValueError(f"its mean {recipe.mean} and standard deviation {recipe.std} are not three numbers each")
    if min(recipe.std) <= 0:
        raise ValueError(f"its standard deviation is {recipe.std}")
    if not 0 < recipe.temperature < math.inf:
        raise ValueError(f"its temperature is {recipe.temperature}")


def class_paths(recipe: Any) -> Iterator[str]:
    """Yield all import paths in a recipe, at any depth.

    >>> list(class_paths({"class_path": "a.Net", "init_args": {"norm": {"class_path": "b.Norm"}, "width": 3}}))
    ['a.Net', 'b.Norm']
    """
    if isinstance(recipe, Mapping) and "class_path" in recipe:
        yield str(recipe["class_path"])
    if isinstance(recipe, Mapping | list | tuple):
        for value in recipe.values() if isinstance(recipe, Mapping) else recipe:
            yield from class_paths(value)


def own_networks() -> set[str]:
    """Return all import paths of this project's networks."""
    classes = [getattr(models, name) for name in models.NETWORKS]
    return {f"{module}.{network.__name__}" for network in classes for module in (network.__module__, models.__name__)}
