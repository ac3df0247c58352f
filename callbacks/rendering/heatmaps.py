"""Class-activation heatmaps: where in an image a network found what speaks for a class."""

import copy
from collections.abc import Callable, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from callbacks.rendering.feature_maps import capture_activations, uncompiled

Method = Literal["gradcam", "gradcam++", "hirescam", "layercam", "eigencam", "scorecam", "ablationcam"]


def heatmaps(
    net: nn.Module, layers: Sequence[str], inputs: Tensor, classes: Tensor, method: Method = "gradcam"
) -> Tensor:
    """Class-activation heatmaps: for each image and each class asked about, one from each layer.

    The gradient methods run the network once, and back once for each column of classes, for all images at a time; below
    the first layer nothing is kept for the way back. The other three are the grad-cam library's, image by image on a
    copy of the network in float32, and take seconds (ScoreCAM and AblationCAM run the network once for each channel).

    Args:
        net: Any network in evaluation mode; it is left exactly as it was.
        layers: L names as in ``net.named_modules()``, of layers that give feature maps.
        inputs: float (N, C, H, W), what the network takes.
        classes: int64 (N, K), the classes that the heatmaps of an image explain.
        method: Which of the methods, see Source.

    Returns:
        float32 (L, N, K, H, W) on the inputs' device, each map scaled to [0, 1]; all 0 where nothing speaks for the
        class.

    Raises:
        ValueError: if the network is in training mode, a layer is not in it or gives no feature map, the classes are
            not (N, K) or not the network's, or the method is unknown.

    Source: Grad-CAM, Selvaraju et al. 2017, arXiv:1610.02391, eq. 1-2; Grad-CAM++, Chattopadhay et al. 2018,
        arXiv:1710.11063, eq. 10 and 19; HiResCAM, Draelos & Carin 2020, arXiv:2011.08891, eq. 6; LayerCAM, Jiang et al.
        2021, doi:10.1109/TIP.2021.3089943, eq. 5-6; EigenCAM, Muhammad & Yeasin 2020, arXiv:2008.00299; ScoreCAM, Wang
        et al. 2020, arXiv:1910.01279; AblationCAM, Desai & Ramaswamy 2020, doi:10.1109/WACV45572.2020.9093360.
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
    if classes.ndim != 2 or len(classes) != len(inputs):
        raise ValueError(
            f"classes must be (N, K) for the {len(inputs)} images, got {tuple(classes.shape)}; for one class each,"
            " classes[:, None]"
        )
    size = inputs.shape[-2:]
    if 0 in classes.shape or not layers:
        return inputs.new_zeros(len(layers), *classes.shape, *size, dtype=torch.float32)
    if method in _COMBINED:
        return logits_and_heatmaps(net, layers, inputs, classes, method)[1]
    return torch.stack([_by_library(net, layer, inputs, classes, method) for layer in layers])


def logits_and_heatmaps(
    net: nn.Module, layers: Sequence[str], inputs: Tensor, classes: Tensor | None = None, method: Method = "gradcam"
) -> tuple[Tensor, Tensor]:
    """Logits float32 (N, classes), and ``heatmaps`` by one of the gradient methods, from one and the same pass.

    Args:
        net: See ``heatmaps``.
        layers: See ``heatmaps``.
        inputs: See ``heatmaps``; at least one.
        classes: See ``heatmaps``; None for the class that the network predicts of each image.
        method: One of the gradient methods.
    """
    size = inputs.shape[-2:]
    logits, maps = _by_gradient(net, layers, inputs, classes, _COMBINED[method])
    return logits, torch.stack([scaled(F.interpolate(scaled(part), size, mode="bilinear")) for part in maps])


def scaled(maps: Tensor) -> Tensor:
    """Maps (..., h, w), each shifted and scaled to [0, 1]; a constant map becomes 0."""
    maps = maps - maps.amin((-2, -1), keepdim=True)
    return maps / (maps.amax((-2, -1), keepdim=True) + 1e-7)  # the grad-cam library's, so that results are comparable


def _by_gradient(
    net: nn.Module,
    layers: Sequence[str],
    inputs: Tensor,
    classes: Tensor | None,
    combined: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, list[Tensor]]:
    """The logits and, for each layer, what its activations say of each class: float32 (N, K, h, w), 0 and above."""
    with capture_activations(net, layers) as (view, kept):
        logits = view(inputs.clone()).float()
        classes = logits.argmax(1, keepdim=True) if classes is None else classes
        if not 0 <= int(classes.min()) <= int(classes.max()) < logits.shape[1]:
            raise ValueError(f"classes must be from 0 to {logits.shape[1] - 1}, got {classes.unique().tolist()}")
        if missing := set(layers) - kept.keys():
            raise ValueError(f"these layers take no part when the network is run: {', '.join(sorted(missing))}")
        if not logits.requires_grad:
            raise ValueError(
                "the network switches gradients off on its way: freeze it with requires_grad_(False) instead"
            )
        activations = [kept[layer] for layer in layers]
        maps: list[list[Tensor]] = [[] for _ in layers]
        for column in classes.clone().T:  # like the inputs: what inference mode has made cannot be used here
            score = logits.gather(1, column[:, None]).sum()  # each image's gradient is of its own logit alone
            gradients = torch.autograd.grad(score, activations, retain_graph=True, allow_unused=True)
            for layer, place, activation, gradient in zip(layers, maps, activations, gradients, strict=True):
                if gradient is None:
                    raise ValueError(f"the logits do not depend on the layer {layer!r}")
                place.append(combined(activation.detach().float(), gradient.float()).relu())
    return logits.detach(), [torch.stack(columns, 1) for columns in maps]


# Each takes activations and gradients, float (N, C, h, w), and gives maps (N, h, w)


def _gradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    return (gradients.mean((2, 3), keepdim=True) * activations).sum(1)


def _gradcam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    squared = gradients**2
    total = activations.sum((2, 3), keepdim=True)
    shares = squared / (2 * squared + total * squared * gradients + 1e-6)
    weights = (torch.where(gradients != 0, shares, 0.0) * gradients.relu()).sum((2, 3), keepdim=True)
    return (weights * activations).sum(1)


def _hirescam(activations: Tensor, gradients: Tensor) -> Tensor:
    return (gradients * activations).sum(1)


def _layercam(activations: Tensor, gradients: Tensor) -> Tensor:
    return (gradients.relu() * activations).sum(1)


_COMBINED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gradcam": _gradcam,
    "gradcam++": _gradcam_plus_plus,
    "hirescam": _hirescam,
    "layercam": _layercam,
}


def _by_library(net: nn.Module, layer: str, inputs: Tensor, classes: Tensor, method: str) -> Tensor:
    """Maps float32 (N, K, H, W) of one layer."""
    library = _silent_library()
    from pytorch_grad_cam.ablation_layer import AblationLayer
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(inputs.device.type, enabled=False):
        twin = copy.deepcopy(uncompiled(net)).float()  # the library leaves hooks, gradients and eval mode behind
        target_layers = [twin.get_submodule(layer)]
        parent, _, child = layer.rpartition(".")
        twin.get_submodule(parent)._modules[child] = nn.Sequential(target_layers[0], _Cloned())
        if method == "ablationcam":  # its default for ablation_layer is one object, which all threads would share
            explain = library.AblationCAM(twin, target_layers, ablation_layer=AblationLayer())
        else:
            explain = {"eigencam": library.EigenCAM, "scorecam": library.ScoreCAM}[method](twin, target_layers)
        images = inputs.clone().float()
        columns = [explain(images, list(map(ClassifierOutputTarget, column))) for column in classes.T.tolist()]
    return torch.from_numpy(np.stack(columns, 1)).float().to(inputs.device)


class _Cloned(nn.Module):
    """A copy, so that a later layer that works in place does not overwrite what the library has noted."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


@cache
def _silent_library() -> Any:
    """The grad-cam library without its progress bar for each image, which would stand in the middle of another one."""
    import pytorch_grad_cam as library  # takes seconds, and only these methods need it

    library.score_cam.tqdm = library.ablation_cam.tqdm = SimpleNamespace(tqdm=iter)
    return library
