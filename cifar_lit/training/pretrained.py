"""Build networks that are pretrained on other classes."""

from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, get_args

from torch import nn

from cifar_lit.errors import InputError
from cifar_lit.inference.images import Interpolation
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
            f" ({reason}){'' if is_mistake else _offline_route(factory.__name__, arguments)}"
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
    last = last_layer(network)
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    outputs = {name: layer.weight.shape[0] for name, layer in layers}
    for name, layer in layers:
        if name == last or ("aux" in name.lower() and outputs[name] == outputs[last]):  # auxiliary heads
            inputs, bias = layer.weight.shape[1], layer.bias is not None
            is_conv = isinstance(layer, nn.Conv2d)  # SqueezeNet's
            head = nn.Conv2d(inputs, num_classes, 1) if is_conv else nn.Linear(inputs, num_classes, bias)
            parent, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(parent), attribute, head)


def last_layer(network: nn.Module) -> str:
    """Return the name of the last linear or convolutional layer, which is the head of networks that end with theirs."""
    return [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1]


def pretrained_preprocessing(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return how images were prepared when a network of torchvision or timm was trained; empty for other networks.

    Args:
        recipe: The network's ``class_path``, ``init_args`` and ``dict_kwargs``.

    Returns:
        The channels' ``mean`` and ``std`` in [0, 1], lists; ``image_size``, height and width; and ``interpolation``,
        the filter for resizing, ``bilinear`` or ``bicubic``.
    """
    package, _, name = str(recipe.get("class_path", "")).rpartition(".")
    arguments = {**recipe.get("init_args", {}), **recipe.get("dict_kwargs", {})}
    try:
        if package.startswith("torchvision") and arguments.get("weights"):
            from torchvision.models import get_model_weights

            transforms = get_model_weights(name)[str(arguments["weights"]).rpartition(".")[2]].transforms()
            found = (transforms.mean, transforms.std, 2 * transforms.crop_size, transforms.interpolation.value)
        elif package.startswith("timm") and (arguments.get("pretrained") or arguments.get("checkpoint_path")):
            import timm

            config = timm.get_pretrained_cfg(arguments.get("model_name", name), allow_unregistered=False)
            assert config is not None
            # A few were trained with "random" interpolation
            interpolation = config.interpolation if config.interpolation in get_args(Interpolation) else "bilinear"
            found = config.mean, config.std, config.input_size[1:], interpolation
        else:
            return {}
    except (LookupError, ValueError, AttributeError, RuntimeError):  # reported when it is built
        return {}
    mean, std, size, interpolation = found
    return {"mean": list(mean), "std": list(std), "image_size": size, "interpolation": interpolation}


def use_preprocessing(
    data: MutableMapping[str, Any], recipe: Mapping[str, Any], stored: Mapping[str, Any] | None = None
) -> str:
    """Set the data's mean, standard deviation, image size and interpolation to a pretrained network's, if not given.

    Args:
        data: The arguments of the data module; modified.
        recipe: The network's.
        stored: The settings of a checkpoint, which are used instead of the network's own.

    Returns:
        What was set, in a line; empty if nothing was.
    """
    found = pretrained_preprocessing(recipe)
    if stored is not None:
        found = {name: stored[name] for name in found if name in stored}
    if "image_size" in found:
        found["image_size"] = tuple(found["image_size"])
    own = {name: value for name, value in found.items() if name in data and data[name] is None}
    for name, value in own.items():  # jsonargparse's Namespace has another update()
        data[name] = value
    texts = [
        f"data.{name} {'x'.join(map(str, value)) if name == 'image_size' else value}" for name, value in own.items()
    ]
    return f"As the network was pretrained: {', '.join(texts)}" if texts else ""


def _offline_route(name: str, arguments: Mapping[str, Any]) -> str:
    """Return what to download where, without a network connection; empty if that is not known."""
    if "weights" not in arguments:
        import timm

        config = timm.get_pretrained_cfg(arguments.get("model_name", name))
        source = config and (f"https://huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else config.url)
        source = source or "its file of weights"
        return f"; without a network connection, download {source} elsewhere, and set model.net.checkpoint_path: FILE"
    from torchvision.models import get_model_weights

    url = get_model_weights(name)[str(arguments["weights"]).rpartition(".")[2]].url
    return f"; without a network connection, download {url} elsewhere, to ~/.cache/torch/hub/checkpoints"
