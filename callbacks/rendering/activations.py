"""Find the feature maps of a network, and capture them so that gradients can be computed."""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

_MAX_PREFIX = 8  # class, distillation and register tokens, which come before those of the image


def feature_maps(net: nn.Module, inputs: Tensor) -> dict[str, tuple[int, int, int]]:
    """Return the layers whose output is a feature map, larger than one pixel and with the image's aspect ratio.

    Of transformers, these are the layer norms and the RMS norms of torch and timm, whose tokens are arranged as in the
    image, unless the logits do not depend on them: after the last attention, only the class token counts. Other 4-D
    outputs are none: windows of the image, and attention weights, which are as high and wide as there are tokens.

    Args:
        net: Any network; it is not modified: a copy is run.
        inputs: float (N, C, H, W), the network's input; one image is enough.

    Returns:
        (channels, height, width) by name, as in ``net.named_modules()``, in the order of execution: the last one is the
        usual choice for Grad-CAM.
    """
    found: dict[str, tuple[int, int, int]] = {}
    norms: dict[str, Tensor] = {}  # outputs of layer norms and RMS norms
    tokens: set[int] = set()
    size = inputs.shape[2:]

    def record(name: str, module: nn.Module, _: Any, output: Any) -> None:
        if not isinstance(output, Tensor) or output.ndim < 3 or len(output) != 1 or type(module) is nn.Linear:
            return
        if output.ndim == 3:
            tokens.add(output.shape[1])
        as_map = None
        normalized = getattr(module, "normalized_shape", None)  # of layer norms and RMS norms
        if isinstance(normalized, tuple) and output.shape[-1] == normalized[-1]:  # channels last
            if (as_map := to_map(output, size)) is not None:
                norms[name] = output
        elif output.ndim == 4 and _is_map_size(output.shape[2:], size) and not tokens >= set(output.shape[2:]):
            as_map = output
        if as_map is not None:
            found.pop(name, None)  # if a layer is used repeatedly, its last output counts
            channels, height, width = as_map.shape[1:]
            found[name] = (channels, height, width)

    with torch.inference_mode(False), torch.enable_grad():
        twin = copy.deepcopy(uncompiled(net)).eval().requires_grad_(False)
        attention: tuple[str, ...] = ()
        for name, module in twin.named_modules():
            if name and re.search("attention|attn", f"{name.rpartition('.')[2]} {type(module).__name__}".lower()):
                attention += (name, f"{name}.")
            elif name and not name.startswith(attention):
                module.register_forward_hook(partial(record, name))
        logits = twin(inputs[:1].clone().requires_grad_(True).clone())  # a network may modify its input
        unused = _without_effect(logits, norms, size)
    return {name: shape for name, shape in found.items() if name not in unused}


def to_map(output: Tensor, size: torch.Size) -> Tensor | None:
    """Return a layer's output as a feature map (N, C, h, w); None if it is none.

    Args:
        output: (N, C, h, w); channels last (N, h, w, C), as in Swin; or tokens (N, T, C) from left to right and top to
            bottom, after up to eight others.
        size: Height and width of the network's input.
    """
    if output.ndim == 4 and _is_map_size(output.shape[2:], size):
        return output
    if output.ndim == 4 and _is_map_size(output.shape[1:3], size):
        return output.permute(0, 3, 1, 2)
    if output.ndim != 3:
        return None
    for prefix in range(min(_MAX_PREFIX + 1, output.shape[1])):
        count = output.shape[1] - prefix
        height = round((count * size[0] / size[1]) ** 0.5)
        if height and count % height == 0 and _is_map_size(torch.Size([height, count // height]), size):
            return output[:, prefix:].transpose(1, 2).unflatten(2, (height, count // height))
    return None


def _without_effect(logits: Tensor, outputs: Mapping[str, Tensor], size: torch.Size) -> set[str]:
    """Return the layers on whose maps the logits do not depend; all if the network disables gradients."""
    if not outputs:
        return set()
    try:
        gradients = torch.autograd.grad(logits.float().logsumexp(1).sum(), list(outputs.values()), allow_unused=True)
    except RuntimeError:
        return set(outputs)
    maps = {name: to_map(one, size) for name, one in zip(outputs, gradients, strict=True) if one is not None}
    return {name for name in outputs if (of_name := maps.get(name)) is None or not of_name.any()}


def last_of_each_size(maps: Mapping[str, tuple[int, int, int]]) -> list[str]:
    """Return the last layer of each feature map size, the last layer first.

    >>> last_of_each_size({"a": (2, 8, 8), "b": (4, 8, 8), "c": (4, 4, 4)})
    ['c', 'b']
    """
    last = {size[1:]: name for name, size in maps.items()}
    return sorted(last.values(), key=list(maps).index, reverse=True)


def _is_map_size(shape: torch.Size, size: torch.Size) -> bool:
    """Return whether maps of this height and width can belong to images of ``size``: same aspect ratio, not larger."""
    (height, width), (full_height, full_width) = shape, size
    skew = abs(height * full_width - width * full_height)
    same_ratio = (
        skew == 0 if full_height == full_width else skew <= max(full_height, full_width)
    )  # off by one through rounding
    return height * width > 1 and same_ratio and height <= 1.25 * full_height


@contextmanager
def capture_activations(net: nn.Module, layers: Sequence[str]) -> Iterator[tuple[nn.Module, dict[str, Tensor]]]:
    """Yield a view of the network that shares its weights and captures the outputs of the chosen layers.

    Gradients are recorded from the first of these layers on, for ``torch.autograd.grad`` of the logits with respect to
    the captured activations. The network itself is not modified (no hooks, no gradients), so that several threads may
    share it.

    Args:
        net: The network, in evaluation mode.
        layers: Names as in ``net.named_modules()``.

    Yields:
        The view, and a dict of activations by layer, filled by each forward pass of the view.

    Raises:
        ValueError: if the network is in training mode or has no such layer.
    """
    net = uncompiled(net)
    if net.training:
        raise ValueError(
            "the network is in training mode, which would update its batch statistics; call net.eval() first"
        )
    kept: dict[str, Tensor] = {}
    with torch.inference_mode(False):  # other tensors of the network are copied
        view = copy.deepcopy(net, {id(tensor): tensor for tensor in (*net.parameters(), *net.buffers())})
    modules = dict(view.named_modules(remove_duplicate=False))
    if missing := [layer for layer in layers if layer not in modules]:
        raise ValueError(f"{type(net).__name__} has no layer {missing[0]!r}")

    def capture(layer: str, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim not in (3, 4):
            raise ValueError(f"layer {layer!r} does not return a feature map (N, channels, H, W) or tokens")
        torch.set_grad_enabled(True)
        kept[layer] = output if output.requires_grad else output.detach().requires_grad_()
        return kept[layer].clone()  # a later layer may overwrite it in place

    for layer in layers:
        modules[layer].register_forward_hook(partial(capture, layer))
    with torch.inference_mode(False), torch.no_grad():  # restores the mode that the captures change
        yield view, kept


def target_classes(logits: Tensor, classes: Tensor | None) -> Tensor:
    """Return the classes to explain, int64 (N, K): by default the predicted one of each image.

    Raises:
        ValueError: If a class is out of range.
    """
    if classes is None:
        return logits.argmax(1, keepdim=True)
    if not 0 <= int(classes.min()) <= int(classes.max()) < logits.shape[1]:
        raise ValueError(f"classes must be from 0 to {logits.shape[1] - 1}, got {classes.unique().tolist()}")
    return classes.clone()  # inference tensors cannot be used in autograd


def uncompiled(net: nn.Module) -> nn.Module:
    """Return the original network of ``torch.compile(net)``; other networks are returned unchanged."""
    inside = getattr(net, "_orig_mod", net)
    assert isinstance(inside, nn.Module)
    return inside
