"""Class-activation heatmaps of fixed images, epoch by epoch, and of the current mistakes."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from callbacks.evaluation_callback import Evaluation, EvaluationCallback, judged_dataset
from callbacks.rendering.explanation_grid import explanation_grid
from callbacks.rendering.feature_maps import feature_maps
from callbacks.rendering.heatmaps import Method, heatmaps
from callbacks.rendering.overlay import ColorMap
from cifar_lit.evaluation.top_mistakes import Mistakes, TopKMistakes

_NAMES: dict[Method, str] = {
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
    "eigencam": "EigenCAM",
    "scorecam": "ScoreCAM",
    "ablationcam": "AblationCAM",
}


class _Chosen(NamedTuple):
    """Images to explain.

    pixels: uint8 (N, 3, H, W).
    logits: float32 (N, C), as they were scored.
    labels, indices: int64 (N,), the true class, and the row of the data set.
    """

    pixels: Tensor
    logits: Tensor
    labels: Tensor
    indices: Tensor


class GradCAMImages(EvaluationCallback):
    """Shows where in an image the network found what speaks for the predicted and for the true class.

    There are two pictures: of fixed images, so that TensorBoard's slider of steps shows how the heatmaps change, and of
    the most confident mistakes. Only these images go through the network once more.

    Args:
        layers: The layers whose feature maps are shown, as in ``net.named_modules()``; by default the last of the
            network. A name that is not there lists those that are.
        method: How the heatmaps are made. The first four take milliseconds; ScoreCAM and AblationCAM seconds.
        count: How many mistakes to show, and how many fixed images if none are named; 0 shows none.
        images: Fixed images, by their index in the data set; by default the first of each class in turn.
        target: The class that is explained: the ``predicted`` one, the ``true`` one, or ``both``.
        opacity: Of a heatmap over its image: 0 shows the image alone, 1 the heatmap alone.
        colormap: Colours of the heatmaps; in ``inferno``, ``viridis`` and ``cividis`` equal steps look equal.
        every_n_epochs: Show them after every so many epochs of ``fit``, and after its last. 0 switches it off.
        png: Also save each picture as a PNG file beside the event file.

    Source: see ``callbacks.rendering.heatmaps``.
    """

    def __init__(
        self,
        layers: list[str] | None = None,
        method: Method = "gradcam",
        count: int = 8,
        images: list[int] | None = None,
        target: Literal["predicted", "true", "both"] = "both",
        opacity: float = 0.5,
        colormap: ColorMap = "inferno",
        every_n_epochs: int = 1,
        png: bool = False,
    ) -> None:
        super().__init__(every_n_epochs, png)
        if count < 0:
            raise MisconfigurationException(f"GradCAMImages: count must be at least 0, got {count}")
        if not 0 <= opacity <= 1:
            raise MisconfigurationException(
                f"GradCAMImages: opacity must be from 0 (the image) to 1 (the heatmap), got {opacity}"
            )
        self.layers, self.method, self.count, self.images = layers, method, count, images
        self.target, self.opacity, self.colormap = target, opacity, colormap
        self._layers: list[str] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds the layers, so that a wrong name ends the run before it has begun."""
        with self.warn_on_error(trainer, pl_module):
            self._find_layers(trainer, pl_module)

    def _find_layers(self, trainer: Trainer, pl_module: LightningModule) -> list[str]:
        if self._layers is not None:
            return self._layers
        if isinstance(trainer.strategy, FSDPStrategy | ModelParallelStrategy | DeepSpeedStrategy):
            return self._none("the weights are spread over the processes")
        if self.layers == [] or (self.count == 0 and not self.images):
            return self._none("layers is empty" if self.layers == [] else "count is 0")
        with trainer.precision_plugin.forward_context():
            example = pl_module.example_input_array.to(pl_module.device)
            found = feature_maps(pl_module.net, pl_module.preprocess(example))
        if not found:
            return self._none("the network has no feature maps")
        # the model summary's names begin with that of the classifier's network
        layers = [
            name if name in found else name.removeprefix("model.").removeprefix("net.")
            for name in self.layers or list(found)[-1:]
        ]
        if unknown := [layer for layer in layers if layer not in found]:
            outermost_first = sorted(found.items(), key=lambda item: item[0].count("."))
            sizes = (f"{name} ({channels}x{height}x{width})" for name, (channels, height, width) in outermost_first)
            raise MisconfigurationException(
                f"GradCAMImages: the network has no feature map {', '.join(unknown)}; it has {', '.join(sizes)}"
            )
        self._layers = layers
        return self._layers

    def _none(self, why: str) -> list[str]:
        rank_zero_info(f"GradCAMImages shows nothing: {why}.")
        self._layers = []
        return self._layers

    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Chooses the fixed images, and forgets the mistakes of the evaluation before."""
        self._watching = bool(self._find_layers(trainer, pl_module))
        self._mistakes = TopKMistakes(self.count)
        self._fixed = _FixedImages(self._choice(trainer), pl_module.device)

    def _choice(self, trainer: Trainer) -> list[int]:
        if self.images is not None:
            return self.images
        dataset = judged_dataset(trainer)
        labels, rows = getattr(dataset, "labels", None), getattr(dataset, "rows", None)
        return [] if labels is None or rows is None else rows[first_of_each_class(labels, self.count)].tolist()

    def watch(self, pl_module: LightningModule, outputs: dict[str, Any], batch: Any) -> None:
        """Keeps the fixed images and the mistakes of a batch."""
        self._fixed.update(batch.pixels, outputs["logits"], outputs["labels"], outputs["indices"])
        self._mistakes.update(batch.pixels, outputs["logits"], outputs["labels"], outputs["indices"])

    def merge(self, pl_module: LightningModule) -> tuple[_Chosen, Mistakes]:
        """The fixed images and the mistakes of all processes."""
        return self._fixed.gathered(pl_module.all_gather), self._mistakes.gathered(pl_module.all_gather)

    def write(self, merged: tuple[_Chosen, Mistakes], evaluation: Evaluation) -> None:
        """Explains and draws both."""
        fixed, mistakes = merged
        name = _NAMES[self.method]
        if lacking := sorted(set(self._fixed.wanted.tolist()) - set(fixed.indices.tolist())):
            rank_zero_info(f"GradCAMImages: no image with the index {lacking} was judged in {evaluation.split}.")
        if len(fixed.labels):
            self._draw(f"{name}: the same images each time", f"{len(fixed.labels)} images", "fixed", fixed, evaluation)
        if self.count:
            chosen = _Chosen(mistakes.pixels, mistakes.logits, mistakes.labels, mistakes.indices)
            count = f"{len(mistakes.labels)} of {mistakes.errors:,} errors in {mistakes.images:,} images"
            self._draw(f"{name}: the most confident mistakes", count, "mistakes", chosen, evaluation)

    def _draw(self, heading: str, count: str, tag: str, chosen: _Chosen, evaluation: Evaluation) -> None:
        layers, names = self._layers or [], evaluation.pl_module.class_names
        shares = chosen.logits.softmax(1)
        targets = {"predicted": chosen.logits.argmax(1), "true": chosen.labels}
        kinds = ["predicted", "true"] if self.target == "both" else [self.target]
        if self.method == "eigencam":  # which asks about no class
            kinds = ["predicted"]
        classes = torch.stack([targets[kind] for kind in kinds], 1)  # (N, K)
        precision = evaluation.trainer.precision_plugin  # that of the logits that were scored
        with torch.inference_mode(False), precision.forward_context():
            pl_module = evaluation.pl_module
            inputs = pl_module.preprocess(chosen.pixels.to(pl_module.device, copy=True))
            maps = heatmaps(pl_module.net, layers, inputs, classes.to(pl_module.device), self.method).cpu()
        captions = [f"{names[label]}\n#{index}" for index, label in zip(chosen.indices, chosen.labels, strict=True)]
        map_captions = [
            [f"why {names[label]}?\n{share[label]:.1%}" for label in of_image] * len(layers)
            for of_image, share in zip(classes.tolist(), shares, strict=True)
        ]
        for texts, hottest in zip(map_captions, maps.amax((-2, -1)).transpose(0, 1).flatten(1).tolist(), strict=True):
            texts[:] = [text if heat > 0 else f"{text}: nothing" for text, heat in zip(texts, hottest, strict=True)]
        headings = [f"{kind} · {layer}" for layer in layers for kind in kinds]
        if self.method == "eigencam":
            map_captions = [["what the layer\nresponds to most"] * len(layers)] * len(captions)
            headings = layers
        picture = explanation_grid(
            chosen.pixels.permute(0, 2, 3, 1).numpy(),
            maps.transpose(0, 1).flatten(1, 2).numpy(),  # (N, L K, H, W)
            captions,
            map_captions,
            headings,
            self.opacity,
            self.colormap,
            title=f"{heading}\n{evaluation.when} · {count}",
        )
        chosen_layers = f" {', '.join(self.layers)}" if self.layers else ""
        evaluation.add_image(f"{self.method}{chosen_layers}/{tag}", picture)


def first_of_each_class(labels: Tensor, count: int) -> Tensor:
    """The first sample of each class in turn, then the second of each, until there are enough.

    Args:
        labels: int64 (N,).
        count: How many, at most.

    Returns:
        int64, positions in ``labels``.

    >>> first_of_each_class(torch.tensor([1, 1, 1, 0, 0]), 4).tolist()
    [3, 0, 4, 1]
    """
    by_class = labels.argsort(stable=True)
    starts = torch.bincount(labels).cumsum(0) - torch.bincount(labels)
    turn = torch.arange(len(labels)) - starts[labels[by_class]]  # of each sample within its class
    return by_class[turn.argsort(stable=True)][:count]


class _FixedImages:
    """Collects images by their index in the data set, as far as they go by."""

    def __init__(self, wanted: Sequence[int], device: torch.device) -> None:
        self.wanted = torch.tensor(wanted, dtype=torch.int64, device=device)
        self._kept: dict[str, Tensor] = {}

    def update(self, pixels: Tensor, logits: Tensor, labels: Tensor, indices: Tensor) -> None:
        """Adds a batch, without waiting for the device."""
        here = self.wanted[:, None] == indices  # (K, N)
        found, place = here.any(1), here.int().argmax(1)
        batch = {"pixels": pixels, "logits": logits.float(), "labels": labels}
        if not self._kept:
            self._kept = {name: part.new_zeros(len(found), *part.shape[1:]) for name, part in batch.items()}
            self._kept["found"] = torch.zeros_like(found)
        for name, part in batch.items():
            chosen = found.view(-1, *[1] * (part.ndim - 1))
            self._kept[name] = torch.where(chosen, part[place], self._kept[name])
        self._kept["found"] = self._kept["found"] | found

    def gathered(self, all_gather: Any) -> _Chosen:
        """Those that were found in any process, in the order in which they were wanted; all processes must call it."""
        whole = {name: all_gather(values) for name, values in self._kept.items()}
        if whole["found"].ndim == 1:
            whole = {name: values[None] for name, values in whole.items()}
        process, place = whole["found"].int().argmax(0), torch.arange(len(self.wanted), device=self.wanted.device)
        found = whole["found"].any(0)
        chosen = [whole[name][process, place] for name in ("pixels", "logits", "labels")] + [self.wanted]
        return _Chosen(*(values[found].cpu() for values in chosen))
