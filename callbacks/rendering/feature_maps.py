"""The feature maps of a network: which there are, and running it such that gradients can be taken at some of them."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def feature_maps(net: nn.Module, inputs: Tensor) -> dict[str, tuple[int, int, int]]:
    """The layers whose output is a feature map: 4-D, larger than one pixel, and of the shape of the image.

    (What is 4-D in a transformer is mostly something else: channels last, or, in attention, heads x tokens x tokens.)

    Args:
        net: Any network; it is left as it was, since a copy of it is run.
        inputs: float (N, C, H, W), what the network takes; one image is enough.

    Returns:
        (channels, height, width) by name, as in ``net.named_modules()``, in the order in which the layers end: the last
        is the usual choice for Grad-CAM. Empty if the network has none.
    """
    found: dict[str, tuple[int, int, int]] = {}
    with torch.inference_mode(False), torch.no_grad():
        twin = copy.deepcopy(uncompiled(net)).eval()
        attention: tuple[str, ...] = ()
        for name, module in twin.named_modules():
            if "attention" in type(module).__name__.lower():
                attention += (name, f"{name}.")
            elif name and not name.startswith(attention):
                module.register_forward_hook(_noting(name, found, inputs.shape[2:]))
        twin(inputs[:1].clone())
    return found


def _noting(name: str, found: dict[str, tuple[int, int, int]], size: torch.Size) -> Callable[..., None]:
    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and _looks_like(output.shape[2:], size):
            found.pop(name, None)  # a layer that is used again ends again
            channels, height, width = output.shape[1:]
            found[name] = (channels, height, width)

    return note


def _looks_like(shape: torch.Size, size: torch.Size) -> bool:
    """Whether maps of that height and width can be of images of that size: of its proportions, not much larger."""
    (height, width), (full_height, full_width) = shape, size
    skew = abs(height * full_width - width * full_height)
    alike = skew == 0 if full_height == full_width else skew <= max(full_height, full_width)  # one pixel, by rounding
    return height * width > 1 and alike and height <= 1.25 * full_height


@contextmanager
def capture_activations(net: nn.Module, layers: Sequence[str]) -> Iterator[tuple[nn.Module, dict[str, Tensor]]]:
    """A view of the network that shares its weights and keeps what the chosen layers give when it is run.

    Up to the first of these layers no gradient is recorded; from it on, ``torch.autograd.grad`` of the logits with
    respect to what was kept gives gradients. The network itself gets no hook, no gradient and no other mode, so that
    several threads may do this with one network at a time.

    Args:
        net: The network, in evaluation mode.
        layers: Names as in ``net.named_modules()``.

    Yields:
        The view, and a dict that each of its runs fills: the layer's output by its name.

    Raises:
        ValueError: if the network is in training mode or has no such layer.
    """
    net = uncompiled(net)
    if net.training:
        raise ValueError("the network is in training mode, where it would learn from being looked at: call net.eval()")
    kept: dict[str, Tensor] = {}
    places = _places(net, layers)
    view = net
    for place in sorted(places, key=lambda place: -place.count(".")):  # a layer's own layers come before it
        view = _with_tap(view, place.split("."), places[place], kept)
    with torch.inference_mode(False), torch.no_grad():  # what the taps switch on ends here
        yield view, kept


def _places(net: nn.Module, layers: Sequence[str]) -> dict[str, str]:
    """Wherever in the network the chosen layers stand, since a layer may be used under several names."""
    modules = dict(net.named_modules(remove_duplicate=False))
    if missing := [layer for layer in layers if layer not in modules]:
        raise ValueError(f"there is no layer {missing[0]!r} in {type(net).__name__}")
    chosen = {id(modules[layer]): layer for layer in layers}
    return {place: chosen[id(module)] for place, module in modules.items() if id(module) in chosen}


def _with_tap(module: nn.Module, path: Sequence[str], name: str, kept: dict[str, Tensor]) -> nn.Module:
    """A shallow copy of the module in which the layer at the path keeps its output."""
    twin = copy.copy(module)  # torch leaves a compiled version behind, as it must: that would not run the tap
    if path:
        children = twin._modules = dict(twin._modules)
        child = children[path[0]]
        assert child is not None  # or the layer would not have been found
        children[path[0]] = _with_tap(child, path[1:], name, kept)
        return twin
    forward = twin.forward

    def keeping_forward(*args: Any, **kwargs: Any) -> Tensor:
        output: Tensor = forward(*args, **kwargs)
        if not isinstance(output, Tensor) or output.ndim != 4:
            raise ValueError(f"the layer {name!r} gives no feature map (N, channels, H, W)")
        torch.set_grad_enabled(True)
        kept[name] = output if output.requires_grad else output.detach().requires_grad_()
        return kept[name].clone()  # which a later layer may overwrite in place

    twin.forward = keeping_forward
    return twin


def uncompiled(net: nn.Module) -> nn.Module:
    """The network inside ``torch.compile(net)``; any other as it is."""
    inside = getattr(net, "_orig_mod", net)
    assert isinstance(inside, nn.Module)
    return inside
