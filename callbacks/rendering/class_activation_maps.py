"""Class-activation heatmaps: where in an image a network finds evidence for a class."""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from callbacks.rendering.activations import capture_activations, target_classes, to_map, uncompiled
from callbacks.rendering.attention_rollout import attention_rollout, has_attention

Method = Literal[
    "gradcam", "gradcam++", "hirescam", "layercam", "attention_rollout", "eigencam", "scorecam", "ablationcam"
]
METHOD_NAMES: dict[Method, str] = {
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
    "attention_rollout": "Gradient attention rollout",
    "eigencam": "EigenCAM",
    "scorecam": "ScoreCAM",
    "ablationcam": "AblationCAM",
}
_LIBRARY_METHODS: tuple[Method, ...] = ("eigencam", "scorecam", "ablationcam")


def heatmaps(
    net: nn.Module, layers: Sequence[str], inputs: Tensor, classes: Tensor, method: Method = "gradcam"
) -> Tensor:
    """Return class-activation heatmaps for each layer, image and class.

    EigenCAM, ScoreCAM and AblationCAM are those of the grad-cam library, on a float32 copy of the network, and take
    seconds: the last two run the network once per channel. All others run one forward pass, and one backward pass per
    column of ``classes``. Attention rollout returns the same maps for all layers.

    Args:
        net: Any network in evaluation mode; it is not modified.
        layers: L names as in ``net.named_modules()``, of layers that return feature maps.
        inputs: float (N, C, H, W), the network's input.
        classes: int64 (N, K), the classes to explain for each image.
        method: The method, see Source.

    Returns:
        float32 (L, N, K, H, W) on the inputs' device, each map scaled to [0, 1]; all 0 without evidence for the class.

    Raises:
        ValueError: if the network is in training mode, a layer does not exist or returns no feature map, ``classes``
            has the wrong shape or values, or the method is unknown.

    Source: Grad-CAM, Selvaraju et al. 2017, arXiv:1610.02391, eq. 1-2; Grad-CAM++, Chattopadhay et al. 2018,
        arXiv:1710.11063, eq. 10 and 19; HiResCAM, Draelos & Carin 2020, arXiv:2011.08891, eq. 6; LayerCAM, Jiang et al.
        2021, doi:10.1109/TIP.2021.3089943, eq. 5-6; attention rollout, see ``callbacks.rendering.attention_rollout``;
        EigenCAM, Muhammad & Yeasin 2020, arXiv:2008.00299; ScoreCAM, Wang et al. 2020, arXiv:1910.01279; AblationCAM,
        Desai & Ramaswamy 2020, doi:10.1109/WACV45572.2020.9093360.
    """
    if method not in METHOD_NAMES:
        raise ValueError(f"method must be one of {', '.join(METHOD_NAMES)}, got {method!r}")
    if classes.ndim != 2 or len(classes) != len(inputs):
        raise ValueError(
            f"classes must be (N, K) for the {len(inputs)} images, got {tuple(classes.shape)};"
            " for one class per image, use classes[:, None]"
        )
    size = inputs.shape[-2:]
    if 0 in classes.shape or not layers:
        return inputs.new_zeros(len(layers), *classes.shape, *size, dtype=torch.float32)
    if method in _LIBRARY_METHODS:
        return torch.stack([_by_library(net, layer, inputs, classes, method) for layer in layers])
    return logits_and_heatmaps(net, layers, inputs, classes, method)[1]


def logits_and_heatmaps(
    net: nn.Module, layers: Sequence[str], inputs: Tensor, classes: Tensor | None = None, method: Method = "gradcam"
) -> tuple[Tensor, Tensor]:
    """Return the logits float32 (N, classes) and ``heatmaps`` of a fast method, from one forward pass.

    Args:
        net: See ``heatmaps``.
        layers: See ``heatmaps``.
        inputs: See ``heatmaps``; at least one.
        classes: See ``heatmaps``; by default the predicted class of each image.
        method: One of ``fast_methods``.
    """
    size = inputs.shape[-2:]
    if method == "attention_rollout":
        logits, relevance = attention_rollout(net, inputs, classes)
        maps = [relevance] * len(layers)
    else:
        logits, maps = _by_gradient(net, layers, inputs, classes, GRADIENT_METHODS[method])
    return logits, torch.stack(
        [rescale(F.interpolate(rescale(layer_maps), size, mode="bilinear")) for layer_maps in maps]
    )


def fast_methods(net: nn.Module, inputs: Tensor) -> list[Method]:
    """Return the methods that take milliseconds; attention rollout only if it works for the network.

    Args:
        net: See ``heatmaps``.
        inputs: See ``heatmaps``; one image is enough.
    """
    rollout: list[Method] = ["attention_rollout"] * has_attention(net, inputs)
    return [*GRADIENT_METHODS, *rollout]


def combines_layers(method: Method | None) -> bool:
    """Return whether the heatmaps of a method are the same for all layers."""
    return method == "attention_rollout"


def heatmaps_by_layer(
    net: nn.Module, layers: Sequence[str], inputs: Tensor, classes: Tensor, method: Method
) -> dict[str, Tensor]:
    """Return ``heatmaps``, float32 (N, K, H, W), by layer; only those that differ."""
    distinct = layers[:1] if combines_layers(method) else layers
    return dict(zip(distinct, heatmaps(net, distinct, inputs, classes, method), strict=True))


def name_layers(method: Method, layers: Sequence[str]) -> str:
    """Return the layers that heatmaps of this method show, as text.

    >>> name_layers("gradcam", ["layer2", "layer3"]), name_layers("attention_rollout", ["layer2"])
    ('layer2, layer3', 'all layers')
    """
    return "all layers" if combines_layers(method) else ", ".join(layers)


def rescale(maps: Tensor) -> Tensor:
    """Return maps (..., h, w), each shifted and scaled to [0, 1]; a constant map becomes 0."""
    maps = maps - maps.amin((-2, -1), keepdim=True)
    return maps / (maps.amax((-2, -1), keepdim=True) + 1e-7)  # as in the grad-cam library


def _by_gradient(
    net: nn.Module,
    layers: Sequence[str],
    inputs: Tensor,
    classes: Tensor | None,
    combine: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, list[Tensor]]:
    """Return the logits and, for each layer, the unscaled maps float32 (N, K, h, w), at least 0."""
    with capture_activations(net, layers) as (view, kept):
        logits = view(inputs.clone()).float()  # inference tensors cannot be used in autograd
        classes = target_classes(logits, classes)
        _check_used(layers, kept)
        if not logits.requires_grad:
            raise ValueError("the forward pass disables gradients; freeze weights with requires_grad_(False) instead")
        activations = [kept[layer] for layer in layers]
        maps: list[list[Tensor]] = [[] for _ in layers]
        for column in classes.T:
            score = logits.gather(1, column[:, None]).sum()  # an image affects its own logit only
            gradients = torch.autograd.grad(score, activations, retain_graph=True, allow_unused=True)
            for layer, layer_maps, activation, gradient in zip(layers, maps, activations, gradients, strict=True):
                if gradient is None:
                    raise ValueError(f"the logits do not depend on the layer {layer!r}")
                pair = (_map_of(layer, tensor.detach().float(), inputs) for tensor in (activation, gradient))
                layer_maps.append(combine(*pair).relu())
    return logits.detach(), [torch.stack(columns, 1) for columns in maps]


def _check_used(layers: Sequence[str], outputs: Mapping[str, Tensor]) -> None:
    if missing := set(layers) - outputs.keys():
        raise ValueError(f"these layers are not used in the forward pass: {', '.join(sorted(missing))}")


def _map_of(layer: str, output: Tensor, inputs: Tensor) -> Tensor:
    """Return a layer's output as a feature map (N, C, h, w)."""
    if (as_map := to_map(output, inputs.shape[2:])) is None:
        raise ValueError(f"layer {layer!r} does not return a feature map (N, channels, H, W) or tokens")
    return as_map


# Map activations and gradients, float (N, C, h, w), to maps (N, h, w)


def _gradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    return (gradients.mean((2, 3), keepdim=True) * activations).sum(1)


def _gradcam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    squared = gradients**2
    total = activations.sum((2, 3), keepdim=True)
    alphas = squared / (2 * squared + total * squared * gradients + 1e-6)
    weights = (torch.where(gradients != 0, alphas, 0.0) * gradients.relu()).sum((2, 3), keepdim=True)
    return (weights * activations).sum(1)


def _hirescam(activations: Tensor, gradients: Tensor) -> Tensor:
    return (gradients * activations).sum(1)


def _layercam(activations: Tensor, gradients: Tensor) -> Tensor:
    return (gradients.relu() * activations).sum(1)


GRADIENT_METHODS: dict[Method, Callable[[Tensor, Tensor], Tensor]] = {
    "gradcam": _gradcam,
    "gradcam++": _gradcam_plus_plus,
    "hirescam": _hirescam,
    "layercam": _layercam,
}


def _by_library(net: nn.Module, layer: str, inputs: Tensor, classes: Tensor, method: str) -> Tensor:
    """Return maps float32 (N, K, H, W) of one layer, from the grad-cam library."""
    library = _silent_library()
    from pytorch_grad_cam.ablation_layer import AblationLayer, AblationLayerVit
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(inputs.device.type, enabled=False):
        twin = copy.deepcopy(uncompiled(net)).float()  # the library leaves hooks and gradients behind
        images = inputs.clone().float()
        with capture_activations(twin, [layer]) as (view, kept):
            view(images[:1].clone())
        _check_used([layer], kept)
        channels_first = _map_of(layer, kept[layer], inputs) is kept[layer]
        target_layers = [twin.get_submodule(layer)]
        parent, _, child = layer.rpartition(".")
        twin.get_submodule(parent)._modules[child] = nn.Sequential(target_layers[0], _Clone())
        reshape = partial(to_map, size=inputs.shape[2:])
        if method == "ablationcam":  # the default ablation_layer is one object shared by all threads
            ablation_layer = AblationLayer() if channels_first else AblationLayerVit()
            explain = library.AblationCAM(twin, target_layers, reshape, ablation_layer=ablation_layer)
        else:
            explain = {"eigencam": library.EigenCAM, "scorecam": library.ScoreCAM}[method](twin, target_layers, reshape)
        columns = [explain(images, list(map(ClassifierOutputTarget, column))) for column in classes.T.tolist()]
    return torch.from_numpy(np.stack(columns, 1)).float().to(inputs.device)


class _Clone(nn.Module):
    """Copy the input, so that a later in-place layer does not overwrite the recorded activation."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


@cache
def _silent_library() -> Any:
    """Import the grad-cam library, and disable its progress bars."""
    import pytorch_grad_cam as library  # takes seconds

    library.score_cam.tqdm = library.ablation_cam.tqdm = SimpleNamespace(tqdm=iter)
    return library
