"""Building a network from its recipe, the plain dict in which checkpoints and configurations describe it."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, get_type_hints

from torch import nn


def build_network(recipe: Mapping[str, Any]) -> nn.Module:
    """The network that a recipe describes, with fresh weights.

    Args:
        recipe: ``class_path``, the import path of a class or function, with ``init_args`` and ``dict_kwargs``, its
            arguments; an argument that is such a dict itself is built first.

    Nothing is called but what is known, before the call, to give a torch.nn.Module: subclasses of it, and functions
    that are annotated so. Importing a module runs its code all the same: build only recipes whose modules you trust.

    Raises:
        ImportError: if the class's module cannot be imported.
        AttributeError: if the module has no such class.
        TypeError: if the recipe names something else than a torch.nn.Module.

    >>> type(build_network({"class_path": "cifar_lit.models.TinyNet", "init_args": {"num_classes": 3}})).__name__
    'TinyNet'
    """
    network: nn.Module = _build(recipe)
    return network


def _build(value: Any) -> Any:
    if isinstance(value, Mapping) and "class_path" in value:
        module, _, name = value["class_path"].rpartition(".")
        factory = getattr(importlib.import_module(module), name)
        made = factory if inspect.isclass(factory) else get_type_hints(factory).get("return")
        if not (inspect.isclass(made) and issubclass(made, nn.Module)):
            raise TypeError(f"{value['class_path']} is no torch.nn.Module, nor a function annotated to return one")
        arguments = {**value.get("init_args", {}), **value.get("dict_kwargs", {})}
        return factory(**{key: _build(argument) for key, argument in arguments.items()})
    if isinstance(value, list):
        return [_build(part) for part in value]
    return value
