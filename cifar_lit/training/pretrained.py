"""Build networks that are pretrained on other classes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from cifar_lit.errors import InputError
from cifar_lit.models.factory import NUM_CLASSES, Factory, accepted_arguments

_PRETRAINED = {"weights", "weights_backbone", "pretrained", "pretrained_backbone", "checkpoint_path"}


def without_pretrained(recipe: Any) -> Any:
    """Return a network's recipe without the arguments that load weights, for a network whose weights are known.

    >>> without_pretrained({"class_path": "timm.create_model", "init_args": {"pretrained": True, "model_name": "x"}})
    {'class_path': 'timm.create_model', 'init_args': {'model_name': 'x'}}
    """
    if isinstance(recipe, list):
        return [without_pretrained(value) for value in recipe]
    if not isinstance(recipe, Mapping):
        return recipe
    kept = {name: without_pretrained(value) for name, value in recipe.items()}
    package, _, name = str(recipe.get("class_path", "")).rpartition(".")
    for section in ("init_args", "dict_kwargs"):
        if section in kept and package.partition(".")[0] in ("torchvision", "timm"):
            kept[section] = {key: value for key, value in kept[section].items() if key not in _PRETRAINED}
            if kept[section] != recipe[section] and recipe[section].get("weights"):
                kept[section] = _set_by_weights(name, recipe[section]["weights"]) | kept[section]
    return kept


def _set_by_weights(name: str, weights: Any) -> dict[str, Any]:
    """Return the arguments that torchvision sets if it builds this network with pretrained weights."""
    if name in ("googlenet", "inception_v3"):
        return {"transform_input": True} | ({"aux_logits": False} if name == "googlenet" else {})
    if name.startswith(("vit_", "maxvit_")):
        from torchvision.models import get_model_weights

        height, width = get_model_weights(name)[str(weights).rpartition(".")[2]].meta["min_size"]
        return {"image_size": height} if name.startswith("vit_") else {"input_size": (height, width)}
    return {}


def build_pretrained(factory: Factory, arguments: Mapping[str, Any], load: bool = True) -> nn.Module:
    """Build a network to train; if it is pretrained on other classes, with a new head.

    Args:
        factory: A class or function; ``num_classes`` is passed only if it takes it.
        arguments: Its arguments, including ``num_classes``.
        load: Whether to load pretrained weights; False if a checkpoint's weights replace them.

    Raises:
        InputError: If pretrained weights cannot be downloaded, or do not fit the network.
    """
    if not load:
        path = f"{factory.__module__}.{factory.__name__}"
        arguments = without_pretrained({"class_path": path, "init_args": arguments})["init_args"]
    package, num_classes = factory.__module__.partition(".")[0], arguments.get(NUM_CLASSES)
    arguments = accepted_arguments(factory, arguments)
    loads = [name for name in sorted(_PRETRAINED) if arguments.get(name) not in (None, False, "")]
    if package not in ("torchvision", "timm") or not loads:
        network: nn.Module = factory(**arguments)
        return network
    file = arguments.get("checkpoint_path")
    if file and not Path(file).is_file():
        raise InputError(f"model.net.checkpoint_path: no such file: {file}")
    as_trained = {name: value for name, value in arguments.items() if name != NUM_CLASSES}
    try:
        if "weights" not in loads:  # torchvision's weights determine the number of classes
            try:
                network = factory(**arguments)
                return network
            except RuntimeError:  # a file of weights for another number
                if file:
                    return _load_all_but_head(factory, arguments, file)
        network = factory(**as_trained)
    except Exception as error:  # of any class, if there is no network connection
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        mistakes = TypeError, ValueError, LookupError, RuntimeError
        is_mistake = isinstance(error, mistakes) and not isinstance(error, OSError)
        raise InputError(
            f"the pretrained network {arguments.get('model_name', factory.__name__)} cannot be built"
            f" ({reason}){'' if is_mistake else _offline_route(package)}"
        ) from error
    if num_classes is not None:
        _replace_head(network, num_classes)
    return network


def _load_all_but_head(factory: Factory, arguments: dict[str, Any], file: str) -> nn.Module:
    """Build timm's network with the weights of a file, except of the head, whose shape differs."""
    from timm.models import load_state_dict

    network: nn.Module = factory(**{name: value for name, value in arguments.items() if name != "checkpoint_path"})
    shapes = {name: weight.shape for name, weight in network.state_dict().items()}
    fitting = {name: value for name, value in load_state_dict(file).items() if shapes.get(name) == value.shape}
    if len(fitting) < len(shapes) / 2:
        raise InputError(f"model.net.checkpoint_path: {file} has the weights of another network")
    network.load_state_dict(fitting, strict=False)
    return network


def _replace_head(network: nn.Module, num_classes: int) -> None:
    if hasattr(network, "reset_classifier"):  # timm's
        network.reset_classifier(num_classes)  # type: ignore[operator]
        return
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    outputs = [layer.weight.shape[0] for _, layer in layers]
    for (name, layer), count in zip(layers, outputs, strict=True):
        if layer is layers[-1][1] or ("aux" in name.lower() and count == outputs[-1]):  # auxiliary heads
            inputs, bias = layer.weight.shape[1], layer.bias is not None
            is_conv = isinstance(layer, nn.Conv2d)  # SqueezeNet's
            head = nn.Conv2d(inputs, num_classes, 1) if is_conv else nn.Linear(inputs, num_classes, bias)
            parent, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(parent), attribute, head)


def _offline_route(package: str) -> str:
    if package == "timm":
        return "; without a network connection, download the file elsewhere and set model.net.checkpoint_path: FILE"
    return "; without a network connection, download the file elsewhere to ~/.cache/torch/hub/checkpoints"
