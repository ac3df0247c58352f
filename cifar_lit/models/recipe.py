"""Building a network from its recipe, the plain dict in which checkpoints and configurations describe it."""

import importlib
from collections.abc import Mapping
from typing import Any

from torch import nn


def build_network(recipe: Mapping[str, Any]) -> nn.Module:
    """The network that a recipe describes, with fresh weights.

    Args:
        recipe: ``class_path``, the import path of a class or function, with ``init_args`` and ``dict_kwargs``, its
            arguments; an argument that is such a dict itself is built first.

    Raises:
        ImportError: if the class's module cannot be imported.
        AttributeError: if the module has no such class.
        TypeError: if the recipe builds something else than a torch.nn.Module.

    >>> type(build_network({"class_path": "cifar_lit.models.TinyNet", "init_args": {"num_classes": 3}})).__name__
    'TinyNet'
    """
    network = _build(recipe)
    if not isinstance(network, nn.Module):
        raise TypeError(f"{recipe['class_path']} is no torch.nn.Module, but {type(network).__name__}")
    return network


def _build(value: Any) -> Any:
    if isinstance(value, Mapping) and "class_path" in value:
        module, _, name = value["class_path"].rpartition(".")
        factory = getattr(importlib.import_module(module), name)
        arguments = {**value.get("init_args", {}), **value.get("dict_kwargs", {})}
        return factory(**{key: _build(argument) for key, argument in arguments.items()})
    if isinstance(value, list):
        return [_build(part) for part in value]
    return value
