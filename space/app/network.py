"""What the page computes: logits and heatmaps, of many images in one pass."""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from callbacks.rendering.feature_maps import feature_maps
from callbacks.rendering.heatmaps import Method, heatmaps, logits_and_heatmaps
from cifar_lit.evaluation.ood import OODThreshold
from cifar_lit.inference.bundle import TrainedClassifier

Function = TypeVar("Function", bound=Callable[..., Any])

# Those that take milliseconds; the other methods of callbacks.rendering take seconds, too long for a public page
METHODS: dict[str, Method] = {
    "Grad-CAM": "gradcam",
    "Grad-CAM++": "gradcam++",
    "HiResCAM": "hirescam",
    "LayerCAM": "layercam",
}


def on_gpu(function: Function) -> Function:
    """The function, as it has to be on a Space with ZeroGPU, where a GPU is lent for the time of a call."""
    if importlib.util.find_spec("spaces") is None:
        return function
    lent: Function = importlib.import_module("spaces").GPU(function)
    return lent


class Network:
    """A trained classifier that answers the page; several threads may ask at a time.

    layers: Its feature maps by name, (channels, height, width) of each; the last is the usual choice.

    Args:
        trained: The classifier.
    """

    def __init__(self, trained: TrainedClassifier) -> None:
        self.recipe = trained.recipe
        self._classifier = trained.network
        example = torch.zeros(1, 3, *self.recipe.image_size, dtype=torch.uint8)
        self.layers = feature_maps(self._classifier.net, self._classifier.preprocess(example))
        # Only now, since where a GPU is lent, nothing may run on it here
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._classifier.to(self._device)
        self.run = on_gpu(self._run)

    @property
    def class_names(self) -> list[str]:
        """The classes."""
        return self.recipe.class_names

    def _run(
        self,
        pixels: np.ndarray,
        explained: int = 0,
        classes: np.ndarray | None = None,
        layer: str = "",
        method: Method = "gradcam",
    ) -> tuple[np.ndarray, np.ndarray]:
        """Classifies images, and explains the first of them, in one pass.

        Args:
            pixels: uint8 (N, H, W, 3).
            explained: M, how many to explain.
            classes: int64 (M, K), the classes to explain; None for the predicted one of each image.
            layer: The feature map that the heatmaps are made from.
            method: How they are made.

        Returns:
            Logits float32 (N, C), and heatmaps uint8 (M, K, H, W), 0 to 255.
        """
        batch = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).to(self._device)
        first, rest = batch[:explained], batch[explained:]
        logits, maps = [], np.zeros((0, 1, *pixels.shape[1:3]), np.uint8)
        if len(first):
            of_first, found = self._explained(first, classes, layer, method)
            logits.append(of_first)
            maps = (found[0] * 255).round().to(torch.uint8).cpu().numpy()
        if len(rest):
            with torch.inference_mode():
                logits.append(self._classifier(rest))
        return torch.cat(logits).cpu().numpy(), maps

    def _explained(
        self, pixels: torch.Tensor, classes: np.ndarray | None, layer: str, method: Method
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (N, C) as they are judged, and heatmaps (1, N, K, H, W)."""
        inputs = self._classifier.preprocess(pixels)
        wanted = None if classes is None else torch.from_numpy(classes).to(self._device)
        if not (self.recipe.flip_tta or self.recipe.translate_tta):
            return logits_and_heatmaps(self._classifier.net, [layer], inputs, wanted, method)
        with torch.inference_mode():
            logits = self._classifier(pixels)  # averaged over views, which decide what is predicted
        wanted = logits.argmax(1, keepdim=True) if wanted is None else wanted
        return logits, heatmaps(self._classifier.net, [layer], inputs, wanted, method)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated class probabilities float32 (N, C), each row summing to 1, of logits (N, C)."""
        return (torch.from_numpy(logits) / self.recipe.temperature).softmax(1).numpy()

    def layer_choices(self) -> list[tuple[str, str]]:
        """Each feature map with its size, for people, and its name; the last one first."""
        return [
            (f"{name} · {channels}x{height}x{width}", name)
            for name, (channels, height, width) in reversed(self.layers.items())
        ]


def flagged(unknown: OODThreshold | None, logits: np.ndarray) -> Sequence[bool]:
    """Whether each image is probably none of the classes, of logits (N, C); never, where no useful limit was fitted."""
    if unknown is None or not unknown.useful:
        return [False] * len(logits)
    flags: list[bool] = unknown.flags(torch.from_numpy(logits)).tolist()
    return flags
