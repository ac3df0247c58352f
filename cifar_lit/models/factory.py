"""Build a network from its recipe: the plain dict that describes it in checkpoints and configs."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from torch import nn

NUM_CLASSES = "num_classes"
Factory = Callable[..., Any]


def build_network(recipe: Mapping[str, Any]) -> nn.Module:
    """Build the network that a recipe describes, with freshly initialized weights.

    Args:
        recipe: ``class_path``, the import path of a class or function, with ``init_args`` and ``dict_kwargs``, its
            arguments; arguments that are such dicts themselves are built first.

    Only subclasses of torch.nn.Module, and functions annotated to return one, are called. Importing a module runs its
    code nevertheless: build only recipes whose modules you trust.

    Raises:
        ImportError: If the module cannot be imported.
        AttributeError: If the module has no such class or function.
        TypeError: If the recipe names anything other than a torch.nn.Module.

    >>> type(build_network({"class_path": "cifar_lit.models.TinyNet", "init_args": {"num_classes": 3}})).__name__
    'TinyNet'
    """
    network: nn.Module = _build(recipe)
    return network


def _build(value: Any) -> Any:
    if isinstance(value, Mapping) and "class_path" in value:
        factory = find_factory(value["class_path"])
        returned = factory if inspect.isclass(factory) else get_type_hints(factory).get("return")
        if not (inspect.isclass(returned) and issubclass(returned, nn.Module)):
            raise TypeError(f"{value['class_path']} is not a torch.nn.Module or function annotated to return one")
        arguments = {**value.get("init_args", {}), **value.get("dict_kwargs", {})}
        return factory(**accepted_arguments(factory, {key: _build(argument) for key, argument in arguments.items()}))
    if isinstance(value, list):
        return [_build(item) for item in value]
    return value


def find_factory(class_path: str) -> Factory:
    """Import a class or function."""
    module, _, name = class_path.rpartition(".")
    factory: Factory = getattr(importlib.import_module(module), name)
    return factory


def accepted_arguments(factory: Factory, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments without ``num_classes`` if the factory does not take it."""
    parameters = inspect.signature(factory).parameters
    takes_all = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    return {name: value for name, value in arguments.items() if name != NUM_CLASSES or takes_all or name in parameters}
