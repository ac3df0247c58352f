"""A JSON Schema of the whole configuration, so that an editor completes and checks the YAML."""

import json
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from jsonargparse import ArgumentParser
from jsonargparse import _completions_jsonschema as completions
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from cifar_lit import models

OWN_NETWORKS = {f"{models.__name__}.{name}" for name in models.NETWORKS}
LISTS = ("callbacks",)  # settings that a second file may extend with `name+:`
GIVEN_LATER = {"params", "optimizer"}  # what optimizers and schedulers are made for


def config_schema(parser: ArgumentParser) -> dict[str, Any]:
    """The schema of the files that ``--config`` takes.

    It lists this project's networks only, of the hundreds of modules that are imported; any other class is accepted by
    its import path, with whatever arguments.

    Args:
        parser: The parser of a subcommand.
    """
    every_path = completions.get_all_subclass_paths  # type: ignore[attr-defined]

    def paths(class_type: type, *args: Any, **kwargs: Any) -> list[str]:
        if issubclass(class_type, type):  # on a metaclass jsonargparse 4.53 raises TypeError
            return []
        found = every_path(class_type, *args, **kwargs)
        if issubclass(class_type, nn.Module):
            return [path for path in found if path in OWN_NETWORKS]
        return found

    schedulers = ArgumentParser()
    schedulers.add_subclass_arguments((LRScheduler, ReduceLROnPlateau), "lr_scheduler")
    with patch.object(completions, "get_all_subclass_paths", paths):
        schema: dict[str, Any] = json.loads(parser.get_completion_script("jsonschema"))
        of_schedulers = json.loads(schedulers.get_completion_script("jsonschema"))
    schema.pop("required", None)  # a file may hold a part of the configuration
    # jsonargparse 4.53 describes these two as classes to be made at once, or not at all, but they are made later
    schema["$defs"] |= of_schedulers["$defs"]
    for name in ("Optimizer", "LRScheduler", "ReduceLROnPlateau"):
        _make_later(schema["$defs"][name])
    model = schema["properties"]["model"]["properties"]
    description = {"description": model["lr_scheduler"].get("description", "")}
    model["lr_scheduler"] = of_schedulers["properties"]["lr_scheduler"] | description
    for definition in _objects(schema):
        properties = definition.get("properties", {})
        if definition is not schema:
            properties.pop("$schema", None)
        if isinstance(path := properties.get("class_path", {}).get("const"), str):
            properties["class_path"] = {"enum": [path, path.rpartition(".")[2]]}
        for name in LISTS:
            if name in properties:
                properties[f"{name}+"] = properties[name]
    for definition in schema["$defs"].values():
        _accept_other_classes(definition)
    return schema


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping inside, outermost first."""
    if isinstance(value, dict):
        yield value
        for part in list(value.values()):
            yield from _objects(part)
    elif isinstance(value, list):
        for part in value:
            yield from _objects(part)


def _make_later(definition: dict[str, Any]) -> None:
    """Takes out of a definition of classes what they are given only when they are made."""
    for part in _objects(definition):
        if {"properties", "required"} <= part.keys():
            part["properties"] = {name: value for name, value in part["properties"].items() if name not in GIVEN_LATER}
            part["required"] = [name for name in part["required"] if name not in GIVEN_LATER]


def _accept_other_classes(definition: dict[str, Any]) -> None:
    """Lets a definition of classes take those that it does not know, by their import path."""
    choices = definition.get("anyOf", [])
    known = [name for choice in choices for name in choice.get("properties", {}).get("class_path", {}).get("enum", [])]
    if known:
        path = {"type": "string", "pattern": r"\.", "not": {"enum": known}}
        choices.append({"type": "object", "required": ["class_path"], "properties": {"class_path": path}})
