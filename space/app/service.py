"""Inference for the page: read, classify and explain uploaded images."""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch

from callbacks.rendering.activations import feature_maps, last_of_each_size
from callbacks.rendering.class_activation_maps import (
    METHOD_NAMES,
    Method,
    fast_methods,
    heatmaps,
    logits_and_heatmaps,
)
from callbacks.rendering.grid import enlarge_images
from callbacks.rendering.overlay import overlay
from cifar_lit.errors import InputError
from cifar_lit.evaluation.ood import OODThreshold
from cifar_lit.inference.bundle import TrainedClassifier
from cifar_lit.inference.images import Resizing
from space.app.decoder import DECODER, TILE, DecodedImage
from space.app.validation import MAX_FILE_SIZE, MAX_IMAGES

Function = TypeVar("Function", bound=Callable[..., Any])

LIMITS = f"JPEG, PNG, WebP, AVIF, TIFF, GIF or BMP file of at most {MAX_FILE_SIZE.removesuffix('mb')} MB"


@dataclass(frozen=True)
class ExplainOptions:
    """Options for the heatmaps.

    count: Number of images to explain, in the order of the upload.
    layer: The feature map to explain, by name.
    method: The method.
    """

    count: int = 0
    layer: str = ""
    method: Method = "gradcam"


@dataclass(frozen=True)
class ImageResult:
    """The classification of one image.

    number: Position among the uploaded files, from 1.
    upload: uint8 (h, w, 3), the uploaded image, scaled down for display.
    pixels: uint8 (H, W, 3), the network's input.
    logits: float32 (C,).
    probs: float32 (C,), calibrated.
    is_ood: Whether the image is probably out-of-distribution; None if the bundle has no threshold.
    selected: A class to explain in addition to the predicted one.
    heatmaps: float32 (H, W) in [0, 1] by class: the predicted class, then the selected one.
    """

    number: int
    upload: np.ndarray
    pixels: np.ndarray
    logits: np.ndarray
    probs: np.ndarray
    is_ood: bool | None
    selected: int | None = None
    heatmaps: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def predicted(self) -> int:
        """The predicted class."""
        return int(self.logits.argmax())

    def top_classes(self, class_names: Sequence[str], count: int) -> list[tuple[str, float]]:
        """Return the most likely classes with their probabilities."""
        order = np.argsort(-self.probs, kind="stable")[:count]
        return [(class_names[label], float(self.probs[label])) for label in order]

    def overlays(self, opacity: float) -> list[tuple[int, np.ndarray]]:
        """Return each explained class with its heatmap blended over the input, uint8 (h, w, 3), enlarged."""
        return [(label, enlarge(overlay(self.pixels, heatmap, opacity))) for label, heatmap in self.heatmaps.items()]


@dataclass(frozen=True)
class UploadResult:
    """The results of one upload, of an example or of an evaluated image.

    paths: All files.
    images: One result for each file that can be read.
    errors: A sentence for each rejected file.
    origin: What the image is if it is not an upload, as Markdown.
    true_label: The true class of an evaluated image.
    """

    paths: list[str]
    images: list[ImageResult]
    errors: list[str]
    origin: str = ""
    true_label: int | None = None

    @property
    def uploads(self) -> list[str]:
        """The uploaded files."""
        return [] if self.origin else self.paths

    def select(self, label: int, index: int | None = None) -> "UploadResult":
        """Return the result with a class selected for one image; for all images if ``index`` is None."""
        images = [replace(one, selected=label) if index in (None, i) else one for i, one in enumerate(self.images)]
        return replace(self, images=images)


class Network:
    """A trained classifier on the available device; safe to call from several threads.

    layers: (channels, height, width) of each feature map by name.
    methods: The heatmap methods that take milliseconds, by title; others would take too long for a public page.
    layer, method: The default layer and method of heatmaps.

    Args:
        trained: The classifier.
        ood_threshold: Threshold for out-of-distribution images.
        layer: The default layer of heatmaps; the network's last feature map if it has no such layer.
        method: The default method of heatmaps; Grad-CAM if it does not work for the network.
    """

    def __init__(
        self,
        trained: TrainedClassifier,
        ood_threshold: OODThreshold | None = None,
        layer: str = "",
        method: Method = "gradcam",
    ) -> None:
        self.recipe, self.ood_threshold = trained.recipe, ood_threshold
        self._classifier, self._ood_scores = trained.network, trained.ood_scores
        example = torch.zeros(1, 3, *self.recipe.image_size, dtype=torch.uint8)
        inputs = self._classifier.preprocess(example)
        self.layers = feature_maps(self._classifier.net, inputs)
        methods = fast_methods(self._classifier.net, inputs)
        self.methods: dict[str, Method] = {METHOD_NAMES[method]: method for method in methods}
        self.layer = layer if layer in self.layers else next(reversed(self.layers), "")
        self.method = method if method in methods else methods[0]
        # After the example: with ZeroGPU, nothing may run on the GPU here
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._classifier.to(self._device)
        self.run = _on_gpu(self._run)

    @property
    def class_names(self) -> list[str]:
        """The classes."""
        return self.recipe.class_names

    def layer_choices(self, all_layers: bool = False) -> list[tuple[str, str]]:
        """Return (label, name) of the last feature map of each size, or of all of them; the last layer first."""
        stages = {*last_of_each_size(self.layers), self.layer}
        return [
            (f"{name} · {height}x{width}, {channels} channels", name)
            for name, (channels, height, width) in reversed(self.layers.items())
            if all_layers or name in stages
        ]

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated class probabilities float32 (N, C) for logits (N, C)."""
        return (torch.from_numpy(logits) / self.recipe.temperature).softmax(1).numpy()

    def _run(
        self,
        pixels: np.ndarray,
        explained: int = 0,
        classes: np.ndarray | None = None,
        layer: str = "",
        method: Method = "gradcam",
        detect: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Classify images, and explain the first M of them, in one pass.

        Args:
            pixels: uint8 (N, H, W, 3).
            explained: M.
            classes: int64 (M, K), the classes to explain; None for the predicted class of each image.
            layer: The feature map to explain.
            method: The method.
            detect: Whether to compute the scores that are low for out-of-distribution images.

        Returns:
            Logits float32 (N, C), heatmaps float32 (M, K, H, W) in [0, 1], and scores float32 (N,), NaN if left out.
        """
        batch = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).to(self._device)
        first, rest = batch[:explained], batch[explained:]
        logits, maps = [], np.zeros((0, 1, *pixels.shape[1:3]), np.float32)
        if len(first):
            first_logits, found = self._explain(first, classes, layer, method)
            logits.append(first_logits)
            maps = found[0].cpu().numpy()
        if len(rest):
            with torch.inference_mode():
                logits.append(self._classifier(rest))
        all_logits = torch.cat(logits).cpu()
        scores = self._ood_scores(all_logits, [batch]) if detect else torch.full((len(batch),), torch.nan)
        return all_logits.numpy(), maps, scores.numpy()

    def _explain(
        self, pixels: torch.Tensor, classes: np.ndarray | None, layer: str, method: Method
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (N, C), with test-time augmentation, and heatmaps (1, N, K, H, W)."""
        inputs = self._classifier.preprocess(pixels)
        targets = None if classes is None else torch.from_numpy(classes).to(self._device)
        if not (self.recipe.flip_tta or self.recipe.translate_tta):
            return logits_and_heatmaps(self._classifier.net, [layer], inputs, targets, method)
        with torch.inference_mode():
            logits = self._classifier(pixels)
        targets = logits.argmax(1, keepdim=True) if targets is None else targets
        return logits, heatmaps(self._classifier.net, [layer], inputs, targets, method)


def classify(network: Network, paths: Sequence[str], options: ExplainOptions | None = None) -> UploadResult:
    """Read, classify and explain image files.

    Args:
        network: The classifier.
        paths: The files, of which the first ``MAX_IMAGES`` are classified.
        options: Which images to explain, for their predicted classes; None for none.
    """
    options = options or ExplainOptions()
    decoded, errors = read_images(paths, network.recipe.resizing)
    if not decoded:
        return UploadResult(list(paths), [], errors)
    pixels = np.stack([image.pixels for image in decoded.values()])
    detect = network.ood_threshold is not None and network.ood_threshold.is_active
    logits, maps, scores = network.run(pixels, options.count, None, options.layer, options.method, detect)
    probs, ood = network.probabilities(logits), flagged(network.ood_threshold, scores)
    images = [
        ImageResult(number, image.upload, image.pixels, logits[index], probs[index], ood[index])
        for index, (number, image) in enumerate(decoded.items())
    ]
    for index, of_image in enumerate(maps):
        images[index] = replace(images[index], heatmaps={images[index].predicted: of_image[0]})
    return UploadResult(list(paths), images, errors)


def explain(network: Network, result: UploadResult, options: ExplainOptions) -> UploadResult:
    """Return the result with new heatmaps: of the first images, and of those with a selected class."""
    images = [replace(image, heatmaps={}) for image in result.images]
    indices = [i for i, image in enumerate(images) if i < options.count or image.selected is not None]
    if indices:
        chosen = [images[index] for index in indices]
        classes = np.array([[one.predicted, one.predicted if one.selected is None else one.selected] for one in chosen])
        if all(one.selected is None for one in chosen):
            classes = classes[:, :1]
        pixels = np.stack([one.pixels for one in chosen])
        _, maps, _ = network.run(pixels, len(chosen), classes, options.layer, options.method)
        for index, labels, of_image in zip(indices, classes.tolist(), maps, strict=True):
            images[index] = replace(images[index], heatmaps=dict(zip(labels, of_image, strict=True)))
    return replace(result, images=images)


def read_images(paths: Sequence[str], resizing: Resizing) -> tuple[dict[int, DecodedImage], list[str]]:
    """Decode the first ``MAX_IMAGES`` files.

    Args:
        paths: The files.
        resizing: How to resize them for the network.

    Returns:
        The images by their number, from 1, and an error message for each rejected file.
    """
    images, errors = {}, []
    for number, path in enumerate(paths[:MAX_IMAGES], start=1):
        try:
            images[number] = DECODER.read(path, resizing)
        except InputError as error:
            errors.append(f"Image {number} {error}.")
    if len(paths) > MAX_IMAGES:
        errors.append(f"Only the first {MAX_IMAGES} of {len(paths)} images are classified.")
    return images, errors


def flagged(threshold: OODThreshold | None, scores: np.ndarray) -> list[bool] | list[None]:
    """Return whether each image is probably out-of-distribution, for scores (N,).

    All are None without a threshold, and False if the page flags no images.
    """
    if threshold is None:
        return [None] * len(scores)
    flags: list[bool] = ((scores < threshold.threshold) & threshold.is_active).tolist()
    return flags


def enlarge(image: np.ndarray) -> np.ndarray:
    """Return an image uint8 (H, W, 3), enlarged for display so that its pixels are visible."""
    return enlarge_images(image[None], TILE)[0]


def _on_gpu(function: Function) -> Function:
    """Return the function, wrapped to borrow a GPU for each call on a Space with ZeroGPU."""
    if importlib.util.find_spec("spaces") is None:
        return function
    wrapped: Function = importlib.import_module("spaces").GPU(function)
    return wrapped
