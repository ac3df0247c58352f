"""Class-activation heatmaps of fixed images and of the most confident mistakes."""

from itertools import product
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from callbacks.evaluation_callback import EvaluatedModule, EvaluationCallback, EvaluationWriter, evaluation_dataset
from callbacks.most_faithful_heatmap import candidate_layers, select_heatmap
from callbacks.rendering.activations import feature_maps
from callbacks.rendering.attention_rollout import has_attention
from callbacks.rendering.class_activation_maps import (
    GRADIENT_METHODS,
    METHOD_NAMES,
    Method,
    combines_layers,
    heatmaps,
    name_layers,
)
from callbacks.rendering.explanation_grid import explanation_grid
from callbacks.rendering.overlay import ColorMap
from cifar_lit.evaluation.top_mistakes import Mistakes, TopKMistakes
from cifar_lit.tensorboard_tags import MISTAKES

_SELECTION_IMAGES, _SELECTION_STEPS = 32, 5


class GradCAMImages(EvaluationCallback):
    """Show which parts of an image are evidence for the predicted and for the true class.

    A layer or method that is not set is selected by a quick measurement on validation images (insertion; see
    ``callbacks.most_faithful_heatmap``) in epochs 1, 2, 4, 8 and so on and in the last one.

    Draws two pictures: fixed images, so that TensorBoard's step slider shows how their heatmaps change, and the most
    confident mistakes. Only these images are run through the network again.

    Args:
        layers: Layers whose feature maps are shown, as in ``net.named_modules()``; by default the one with the most
            faithful heatmaps. An unknown name raises an error that lists the valid ones.
        method: How to compute the heatmaps; by default the most faithful of the first five, which take milliseconds.
            ``attention_rollout`` needs a vision transformer, and is the same for all layers. ScoreCAM and AblationCAM
            take seconds.
        count: Number of mistakes to show, and of fixed images if ``images`` is not set; 0 shows none.
        images: Indices of the fixed images in the dataset; by default the first of each class in turn.
        target: Class to explain: ``predicted``, ``true`` or ``both``; for a correct image, ``both`` explains the
            predicted and the second most likely class.
        opacity: Opacity of a heatmap over its image: 0 shows the image alone, 1 the heatmap alone.
        colormap: Colors of the heatmaps; ``inferno``, ``viridis`` and ``cividis`` are perceptually uniform.
        every_n_epochs: Show them every n epochs of ``fit`` and after the last one; 0 disables it.
        png: Also save each picture as a PNG file next to the event file.

    Source: see ``callbacks.rendering.class_activation_maps``.
    """

    def __init__(
        self,
        layers: list[str] | None = None,
        method: Method | None = None,
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
        self._layers: list[str] | None = None  # those set, or the candidates; None if not yet known
        self._selected: tuple[list[str], Method] | None = None
        self._selection_epoch = 0
        # Computed once: Lightning reads it at every hook, and later adds its own methods to the callback
        options = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        self._state_key = self._generate_state_key(**options)

    @property
    def state_key(self) -> str:
        """Key of the state in a checkpoint, different for each callback."""
        return self._state_key

    def state_dict(self) -> dict[str, Any]:
        """Return the selected layers and method."""
        return {"selected": self._selected, "selection_epoch": self._selection_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the selected layers and method."""
        self._selected, self._selection_epoch = state_dict["selected"], state_dict.get("selection_epoch", 0)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the layers, so that a wrong name raises before training starts."""
        with self.warn_on_error(trainer, pl_module):
            self._find_layers(trainer, pl_module)

    def _find_layers(self, trainer: Trainer, pl_module: LightningModule) -> list[str]:
        if self._layers is not None:
            return self._layers
        if isinstance(trainer.strategy, FSDPStrategy | ModelParallelStrategy | DeepSpeedStrategy):
            return self._show_nothing("the weights are sharded over the processes")
        if self.layers == [] or (self.count == 0 and not self.images):
            return self._show_nothing("layers is empty" if self.layers == [] else "count is 0")
        with trainer.precision_plugin.forward_context():
            example = pl_module.example_input_array.to(pl_module.device)
            inputs = pl_module.preprocess(example)
            found = feature_maps(pl_module.net, inputs)
            lacks_attention = self.method == "attention_rollout" and not has_attention(pl_module.net, inputs)
        if not found:
            return self._show_nothing("the network has no feature maps")
        if lacks_attention:
            raise MisconfigurationException(
                "GradCAMImages: attention_rollout needs a vision transformer with global self-attention, and"
                f" {type(pl_module.net).__name__} has none; choose another method"
            )
        # in the model summary, names start with the classifier's attribute
        layers = [
            name if name in found else name.removeprefix("model.").removeprefix("net.")
            for name in self.layers or candidate_layers(found, example.shape[2])
        ]
        if unknown := [layer for layer in layers if layer not in found]:
            outermost_first = sorted(found, key=lambda name: name.count("."))
            sizes = (f"{name} ({'x'.join(map(str, found[name]))})" for name in outermost_first)
            raise MisconfigurationException(
                f"GradCAMImages: the network has no feature map {', '.join(unknown)}; it has {', '.join(sizes)}"
            )
        self._layers = layers
        return self._layers

    def _select(self, writer: EvaluationWriter) -> None:
        """Select the layers and the method, as far as they are not set; again whenever the epochs have doubled."""
        assert self._layers
        trainer, pl_module = writer.trainer, writer.pl_module
        epoch = pl_module.trained_epoch
        due = trainer.state.fn == "fit" and (epoch >= 2 * self._selection_epoch or epoch == trainer.max_epochs)
        if self._selected is None or due:
            images = self._fixed_images(writer, _SELECTION_IMAGES)
            if images is None or (self.layers and self.method) or self.method not in {None, *GRADIENT_METHODS}:
                layer, method = self._layers[0], self.method or "gradcam"
            else:
                with torch.inference_mode(False), trainer.precision_plugin.forward_context():
                    inputs = pl_module.preprocess(images.pixels.to(pl_module.device, copy=True))
                    methods = None if self.method is None else [self.method]
                    layer, method = select_heatmap(pl_module.net, inputs, self._layers, methods, _SELECTION_STEPS)
            layers = [layer] if not self.layers or combines_layers(method) else self._layers
            self._selected, self._selection_epoch = (layers, method), epoch

    def _show_nothing(self, reason: str) -> list[str]:
        rank_zero_info(f"GradCAMImages shows nothing: {reason}.")
        self._layers = []
        return self._layers

    def reset(self, trainer: Trainer, pl_module: EvaluatedModule) -> None:
        """Forget the previous mistakes."""
        self._active = bool(self._find_layers(trainer, pl_module))
        self._mistakes = TopKMistakes(self.count)

    def update(self, pl_module: EvaluatedModule, outputs: dict[str, Any], batch: Any) -> None:
        """Keep the mistakes of a batch."""
        self._mistakes.update(batch.pixels, outputs["logits"], outputs["labels"], outputs["indices"])

    def compute(self, pl_module: EvaluatedModule) -> Mistakes:
        """Return the mistakes of all processes."""
        return self._mistakes.gather(pl_module.all_gather)

    def write(self, results: Mistakes, writer: EvaluationWriter) -> None:
        """Draw both pictures."""
        self._select(writer)
        fixed = self._fixed_images(writer) if self.count or self.images else None
        if fixed is not None:
            pl_module, precision = writer.pl_module, writer.trainer.precision_plugin
            with torch.inference_mode(), precision.forward_context():
                logits = pl_module.evaluate(fixed.pixels.to(pl_module.device)).cpu()
            self._draw("the same images each time", f"{len(fixed.labels)} images", "fixed", fixed, logits, writer)
        if self.count:
            count = f"{len(results.labels)} of {results.errors:,} errors in {results.images:,} images"
            self._draw("the most confident mistakes", count, "mistakes", results, results.logits, writer)

    def _fixed_images(self, writer: EvaluationWriter, to_select: int = 0) -> Any:
        """Return a batch of the fixed images, or of ``to_select`` images; None if there are none."""
        dataset = evaluation_dataset(writer.trainer)
        if dataset is None:
            return None
        if to_select or self.images is None:
            positions = first_of_each_class(dataset.labels.cpu(), to_select or self.count).tolist()
        else:
            known = {index: position for position, index in enumerate(dataset.indices.tolist())}
            positions = [known[index] for index in self.images if index in known]
            if missing := sorted(set(self.images) - known.keys()):
                rank_zero_info(f"GradCAMImages: no image of {writer.split} has index {missing}.")
        return dataset.__getitems__([(0, position) for position in positions]) if positions else None

    def _draw(self, heading: str, count: str, tag: str, images: Any, logits: Tensor, writer: EvaluationWriter) -> None:
        assert self._selected is not None
        (layers, method), pl_module = self._selected, writer.pl_module
        names = pl_module.class_names
        predicted = logits.argmax(1)
        targets = {"predicted": predicted, "true": images.labels.cpu()}
        kinds = ["predicted", "true"] if self.target == "both" else [self.target]
        if method == "eigencam":  # which does not depend on the class
            kinds = ["predicted"]
        classes = torch.stack([targets[kind] for kind in kinds], 1)  # (N, K)
        if len(kinds) == 2:  # the same heatmap twice would show nothing new
            second = logits.scatter(1, predicted[:, None], float("-inf")).argmax(1)
            classes[:, 1] = second.where(classes[:, 1] == predicted, classes[:, 1])
        with torch.inference_mode(False), writer.trainer.precision_plugin.forward_context():
            inputs = pl_module.preprocess(images.pixels.to(pl_module.device, copy=True))
            maps = heatmaps(pl_module.net, layers, inputs, classes.to(pl_module.device), method).cpu()
        maps = maps.transpose(0, 1).flatten(1, 2)  # (N, L K, H, W)
        captions = [f"{names[label]}\n#{index}" for index, label in zip(images.indices, images.labels, strict=True)]
        if method == "eigencam":
            map_captions = [[f"strongest response\n{layer}" for layer in layers]] * len(captions)
        else:
            map_captions = [
                [
                    f"why {names[label]}?\n{prob[label]:.1%}"
                    + f"\n{layer}" * (len(layers) > 1)
                    + "\nno evidence" * (peak == 0)
                    for (layer, label), peak in zip(product(layers, labels), peaks, strict=True)
                ]
                for labels, prob, peaks in zip(
                    classes.tolist(), logits.softmax(1), maps.amax((-2, -1)).tolist(), strict=True
                )
            ]
        picture = explanation_grid(
            images.pixels.cpu().permute(0, 2, 3, 1).numpy(),
            maps.numpy(),
            captions,
            map_captions,
            self.opacity,
            self.colormap,
            title=f"{METHOD_NAMES[method]}: {heading}\n{name_layers(method, layers)} · {writer.subtitle}\n{count}",
        )
        chosen = " ".join([*([self.method] if self.method else []), *(self.layers or [])])
        writer.add_image(MISTAKES, f"heatmaps {chosen}/{tag}" if chosen else f"heatmaps/{tag}", picture)


def first_of_each_class(labels: Tensor, count: int) -> Tensor:
    """Return the positions int64 (K,) of the first sample of each class in turn, then of the second, and so on.

    Args:
        labels: int64 (N,).
        count: Maximum number of samples.

    >>> first_of_each_class(torch.tensor([1, 1, 1, 0, 0]), 4).tolist()
    [3, 0, 4, 1]
    """
    by_class = labels.argsort(stable=True)
    starts = torch.bincount(labels).cumsum(0) - torch.bincount(labels)
    rank = torch.arange(len(labels)) - starts[labels[by_class]]  # of each sample within its class
    return by_class[rank.argsort(stable=True)][:count]
