"""A trained classifier on disk without its training: its recipe as JSON, its weights as safetensors."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cifar_lit import models
from cifar_lit.errors import InputError
from cifar_lit.inference.model import InferenceModel
from cifar_lit.models import PixelNormalization
from cifar_lit.models.factory import build_network

_FORMAT = 1  # raise when what is written changes
_MOST_AT_ONCE, _PIXELS_AT_ONCE = 256, 2**24  # images, and pixels, that are classified together
_RECIPE, _WEIGHTS = "recipe.json", "weights.safetensors"


@dataclass(frozen=True)
class Recipe:
    """What a trained classifier is, but for its weights.

    net: The network's ``class_path``, ``init_args`` and ``dict_kwargs``.
    class_names: The classes; a label is a place in this list.
    image_size: Height and width of the images that it was trained on.
    mean, std: Of each channel, in [0, 1], that its images are normalised with.
    flip_tta, translate_tta: Which views of an image its logits are averaged over; see ``cifar_lit.inference.model``.
    temperature: That its logits are divided by for a calibrated confidence.
    """

    net: dict[str, Any]
    class_names: list[str]
    image_size: tuple[int, int]
    mean: list[float]
    std: list[float]
    flip_tta: bool = False
    translate_tta: int = 0
    temperature: float = 1.0

    def build(self) -> InferenceModel:
        """The classifier with fresh weights; see ``build_network`` for what is raised."""
        normalize = PixelNormalization(self.mean, self.std)
        return InferenceModel(normalize, build_network(self.net), self.flip_tta, self.translate_tta)


@dataclass(frozen=True)
class TrainedClassifier:
    """A trained classifier, ready to classify: in evaluation mode, float32, without gradients."""

    recipe: Recipe
    network: InferenceModel

    @classmethod
    def of(cls, recipe: Recipe, weights: Mapping[str, Tensor]) -> "TrainedClassifier":
        """The classifier with these weights.

        Raises:
            InputError: if it cannot be built, or they are another network's.
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
    def logits(self, pixels: Tensor) -> Tensor:
        """Logits float32 (N, classes), on the network's device, of pixels uint8 (N, 3, H, W)."""
        return torch.cat([self.network(part.to(self.device)) for part in pixels.split(self.batch_size)])

    @property
    def batch_size(self) -> int:
        """How many images are classified at once: fewer, where they are large."""
        height, width = self.recipe.image_size
        return max(1, min(_MOST_AT_ONCE, _PIXELS_AT_ONCE // (height * width)))

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Class probabilities float32 (N, classes), each row summing to 1, at the recipe's temperature."""
        return (self.logits(pixels) / self.recipe.temperature).softmax(1)


def _check_fit(recipe: Recipe, weights: Mapping[str, Tensor]) -> None:
    """Raises RuntimeError if the weights are another network's, before that one can fill the memory.

    A network that looks at its numbers while it is built cannot be built without them, and is not checked.
    """
    try:
        with torch.device("meta"):
            network = recipe.build()
    except (RuntimeError, ValueError, TypeError):
        return
    network.load_state_dict(weights, assign=True)


def write_bundle(folder: Path, recipe: Recipe, weights: Mapping[str, Tensor]) -> None:
    """Writes a trained classifier to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": _FORMAT, **asdict(recipe)}, indent=2, ensure_ascii=False)
    (folder / _RECIPE).write_text(text + "\n", encoding="utf-8")
    save_file({name: tensor.clone().contiguous() for name, tensor in weights.items()}, folder / _WEIGHTS)


def read_bundle(folder: Path, trusted: Sequence[str] = ()) -> TrainedClassifier:
    """The trained classifier of a folder; no code in it is run.

    Args:
        folder: Written by ``write_bundle``.
        trusted: Import paths of what its recipe may name besides the networks of ``cifar_lit.models``. They are
            imported and called: name only what you know.

    Raises:
        InputError: if the folder is no whole bundle, or names a network that is not trusted.
    """
    try:
        settings = json.loads((folder / _RECIPE).read_text(encoding="utf-8"))
        if settings.pop("format") != _FORMAT:
            raise ValueError("it is of another version")
        recipe = Recipe(**{**settings, "image_size": tuple(settings["image_size"])})
        if not recipe.temperature > 0 or len(recipe.image_size) != 2:
            raise ValueError(f"its temperature is {recipe.temperature}, its image size {recipe.image_size}")
        if unknown := sorted(set(class_paths(recipe.net)) - own_networks() - set(trusted)):
            raise ValueError(f"it names {', '.join(unknown)}, which is not among the networks that may be built here")
        weights = load_file(folder / _WEIGHTS)
        return TrainedClassifier.of(recipe, weights)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError, InputError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder} holds no classifier that can be shown ({reason}); export it again") from error


def class_paths(recipe: Any) -> Iterator[str]:
    """All import paths in a recipe, at any depth.

    >>> list(class_paths({"class_path": "a.Net", "init_args": {"norm": {"class_path": "b.Norm"}, "width": 3}}))
    ['a.Net', 'b.Norm']
    """
    if isinstance(recipe, Mapping):
        if "class_path" in recipe:
            yield str(recipe["class_path"])
        for part in recipe.values():
            yield from class_paths(part)
    elif isinstance(recipe, list | tuple):
        for part in recipe:
            yield from class_paths(part)


def own_networks() -> set[str]:
    """The networks of this project, by each path that they can be imported by."""
    classes = [getattr(models, name) for name in models.NETWORKS]
    return {f"{place}.{made.__name__}" for made in classes for place in (made.__module__, models.__name__)}
