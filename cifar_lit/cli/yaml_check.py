"""Checks of YAML files for mistakes that the parser would ignore or report poorly."""

import difflib
from pathlib import Path
from typing import Any

import yaml

from cifar_lit.errors import InputError

_GROUPS = ("trainer", "model", "best_checkpoint", "last_checkpoint")
_MAX_DEPTH, _MAX_VALUES = 50, 100_000
_CLASS_KEYS = ("class_path", "init_args", "dict_kwargs")


def check_yaml(file: Path) -> None:
    """Raise InputError with the file and line if it is not a YAML mapping."""
    try:
        text = file.read_text()
        _check_size(file, text)
        content = yaml.safe_load(text)
    except OSError as error:
        raise InputError(f"--config: {file} cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).replace('in "<unicode string>", ', "").split())
        raise InputError(f"{file} is not valid YAML: {reason}") from error
    if not isinstance(content, dict):
        raise InputError(f"{file} must hold settings (`name: value` lines), got {type(content).__name__}")
    for name in _GROUPS:
        if not isinstance(content.get(name, {}), dict):  # the parser would ignore it
            raise InputError(f"{file}: {name} must hold settings (`name: value` lines), got {content[name]}")
    if content.get("data", "") is None:  # the parser would report it as missing
        raise InputError(f"{file}: data must name a class (`class_path: CIFAR10`), got None")
    _check_class_entries(file, content, "")


def _check_size(file: Path, text: str) -> None:
    """Raise InputError for a file whose values, with all aliases resolved, would fill the memory or the stack."""
    open_nodes: list[str | None] = [None]  # the anchor of each enclosing list or mapping
    sizes = [0]  # their number of values so far
    known: dict[str, int] = {}
    for event in yaml.parse(text, yaml.SafeLoader):
        anchor, size = getattr(event, "anchor", None), 0
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append(anchor)
            sizes.append(1)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop(), sizes.pop()
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in open_nodes:
                raise InputError(f"{file}: the value {event.anchor!r} contains itself")
            size = known.get(str(event.anchor), 1)  # the parser reports an unknown one
        sizes[-1] += size
        if anchor and size and not isinstance(event, yaml.AliasEvent):
            known[anchor] = size
        if len(sizes) > _MAX_DEPTH or sizes[-1] > _MAX_VALUES:
            limit = f"{_MAX_DEPTH} levels" if len(sizes) > _MAX_DEPTH else f"{_MAX_VALUES:,} values"
            line = f", line {event.start_mark.line + 1}" if event.start_mark else ""
            raise InputError(f"{file}{line}: a configuration may have at most {limit}")


def _check_class_entries(file: Path, content: Any, key: str) -> None:
    """Raise InputError for an unknown or misspelled key next to ``class_path``, which the parser would not name."""
    if isinstance(content, dict):
        is_class = not content.keys().isdisjoint(_CLASS_KEYS)
        for name in content.keys() - set(_CLASS_KEYS):
            near = difflib.get_close_matches(str(name), _CLASS_KEYS, n=1, cutoff=0.6 if is_class else 0.85)
            if is_class or near:
                hint = f"did you mean {near[0]!r}?" if near else "the arguments of a class belong under init_args"
                raise InputError(f"{file}: {key}: unknown key {name!r}; {hint}")
        for name, value in content.items():
            _check_class_entries(file, value, f"{key}.{name}" if key else str(name))
    elif isinstance(content, list):
        for value in content:
            _check_class_entries(file, value, key)
