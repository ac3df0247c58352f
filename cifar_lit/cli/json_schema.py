"""JSON Schema of the configuration, for completion and validation in editors."""

from collections.abc import Iterator
from typing import Any

from jsonargparse import ArgumentParser
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from cifar_lit import models
from cifar_lit.cli.jsonargparse_compat import json_schema

_NETWORKS = {f"{models.__name__}.{name}" for name in models.NETWORKS}
_EXTENDABLE_LISTS = ("callbacks",)  # settings that a second file may extend with `name+:`
_RUNTIME_ARGUMENTS = {"params", "optimizer"}  # passed to optimizers and schedulers when they are created


def config_schema(parser: ArgumentParser) -> dict[str, Any]:
    """Return the schema of the files that ``--config`` takes.

    Of the hundreds of imported modules, only this project's networks are listed; any other class is accepted by its
    import path, with arbitrary arguments.

    Args:
        parser: The parser of a subcommand.
    """

    def keep(class_type: type, paths: list[str]) -> list[str]:
        return [path for path in paths if path in _NETWORKS] if issubclass(class_type, nn.Module) else paths

    scheduler_parser = ArgumentParser()
    scheduler_parser.add_subclass_arguments((LRScheduler, ReduceLROnPlateau), "lr_scheduler")
    schema, schedulers = json_schema(parser, keep), json_schema(scheduler_parser, keep)
    schema.pop("required", None)  # a file may contain a part of the configuration
    # jsonargparse 4.53 describes optimizers as instances and leaves out schedulers; both are created later
    schema["$defs"] |= schedulers["$defs"]
    for name in ("Optimizer", "LRScheduler", "ReduceLROnPlateau"):
        _drop_runtime_arguments(schema["$defs"][name])
    model = schema["properties"]["model"]["properties"]
    description = {"description": model["lr_scheduler"].get("description", "")}
    model["lr_scheduler"] = schedulers["properties"]["lr_scheduler"] | description
    for definition in _objects(schema):
        properties = definition.get("properties", {})
        if definition is not schema:
            properties.pop("$schema", None)
        if isinstance(path := properties.get("class_path", {}).get("const"), str):
            properties["class_path"] = {"enum": [path, path.rpartition(".")[2]]}
        for name in _EXTENDABLE_LISTS:
            if name in properties:
                properties[f"{name}+"] = properties[name]
    for definition in schema["$defs"].values():
        _accept_other_classes(definition)
    return schema


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every nested mapping, outermost first."""
    if isinstance(value, dict):
        yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in list(children):
        yield from _objects(child)


def _drop_runtime_arguments(definition: dict[str, Any]) -> None:
    for item in _objects(definition):
        if {"properties", "required"} <= item.keys():
            for name in _RUNTIME_ARGUMENTS:
                item["properties"].pop(name, None)
            item["required"] = [name for name in item["required"] if name not in _RUNTIME_ARGUMENTS]


def _accept_other_classes(definition: dict[str, Any]) -> None:
    """Let a definition of classes accept any other class by its import path."""
    choices = definition.get("anyOf", [])
    known = [name for choice in choices for name in choice.get("properties", {}).get("class_path", {}).get("enum", [])]
    if known:
        path = {"type": "string", "pattern": r"\.", "not": {"enum": known}}
        choices.append({"type": "object", "required": ["class_path"], "properties": {"class_path": path}})
