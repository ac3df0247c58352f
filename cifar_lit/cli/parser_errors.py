"""Rewrite jsonargparse's multi-line errors as one line: the setting, what was expected, the closest valid name."""

import importlib
import inspect
import re
from collections.abc import Iterable, Iterator

from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cifar_lit import models
from cifar_lit.cli.commands import COMMANDS, did_you_mean
from cifar_lit.data.augment import Augmentation
from cifar_lit.data.datamodule import ImageDataModule
from cifar_lit.import_allowlist import denial_reason

# Base class of a setting's classes, by the last part of its key
_CLASSES: dict[str, type] = {
    "optimizer": Optimizer,
    "lr_scheduler": LRScheduler,
    "callbacks": Callback,
    "logger": Logger,
    "augment": Augmentation,
    "data": ImageDataModule,
}


def one_line(message: str, options: Iterable[str]) -> str:
    """Return jsonargparse's multi-line error message as one line.

    Args:
        message: The message.
        options: Names of all settings, to suggest the closest one.
    """
    text = " ".join(message.split())
    for pattern, explain in _EXPLANATIONS:
        if match := re.search(pattern, text):
            # jsonargparse names each level of a nested setting
            key = ".".join(dict.fromkeys(re.findall(r'Parser key "([^"]+)"', text[: match.start()])))
            return _truncate(explain(key, match, text, list(options)), _MAX_LENGTH)
    return _truncate(text, _MAX_LENGTH)


def _unknown_argument(key: str, match: re.Match[str], text: str, options: list[str]) -> str:
    known = list(_arguments_of(text))
    if match[1] in known:  # *args, as of torch.nn.Sequential
        hint = "write a function that returns the network (docs/extending.md)"
        return f"{key}: {match[1]!r} is a list of arguments without names, which YAML cannot pass; {hint}"
    return f"{key}: unknown setting {match[1]!r}{did_you_mean(match[1], known)}"


def _unknown_class(key: str, match: re.Match[str], text: str, options: list[str]) -> str:
    known = list(_class_names(key))
    hint = did_you_mean(match[1], known) or (f"; choose from {', '.join(sorted(known))}" if known else "")
    return f"{key}: unknown class {match[1]!r}{hint} (give classes from other packages by import path)"


def _unknown_setting(key: str, match: re.Match[str], text: str, options: list[str]) -> str:
    name = match[1].lstrip("-")
    return f"unknown setting {name!r}{did_you_mean(name, options)} (--help_all lists them)"


def _unrecognized(key: str, match: re.Match[str], text: str, options: list[str]) -> str:
    if not match[1].startswith("-"):
        return f"unexpected {match[1]!r}; give a setting as --name value (--help lists them)"
    option = match[1].partition("=")[0]
    if option[2:] in options:
        return f"unexpected {option!r}; list the {option[2:]} without it (see --help)"
    return _unknown_setting(key, match, text, options)


def _no_value(key: str, match: re.Match[str], text: str, options: list[str]) -> str:
    return f"{match[1]} needs a value, for example {match[1]} true if it is a switch (see --help)"


def _missing(key: str, match: re.Match[str], text: str, options: list[str]) -> str:
    names = [name.partition(".")[2] if name.split(".")[0] in COMMANDS else name for name in match[1].split(", ")]
    if "model.net" in names:
        return "no network is configured; give a configuration, for example --config configs/quickstart.yaml"
    settings = ", ".join(f"{key}.{name}" if key else name for name in names)
    return f"missing {settings}; pass it, for example with --{settings.split(', ')[-1]} VALUE (see --help)"


def _wrong_type(key: str, match: re.Match[str], text: str, options: list[str]) -> str:
    innermost = text.rpartition("Parser key ")[2]
    expectations = re.split(r"Given value|Got value", innermost)[0]
    found = re.findall(r"Expected an? (?:<class '(?:\w+\.)*(\w+)'>|typing\.Literal(\[.+?\]))", expectations)
    kinds = [f"one of {values}" if values else name.replace("NoneType", "null") for name, values in found]
    value = re.search(r"(?:Given|Got) value: (.+?)(?:\.? Got value:| - Expected| Given value|$)", innermost)
    got = f", got {_truncate(value[1])}" if value else ""
    return f"{key}: expected {' or '.join(kinds) or 'another value'}{got}"


def _import_failed(key: str, match: re.Match[str], text: str, options: list[str]) -> str:
    return f"{key}: {match[0]}"


def _not_allowed(key: str, match: re.Match[str], text: str, options: list[str]) -> str:
    return f"{key}: {match[1]} {denial_reason(match[1])}"


_MAX_LENGTH = 330  # characters: three lines
_EXPLANATIONS = (
    (r"Subcommand '\w+' does not accept option '([^']+)'", _unknown_setting),
    (r"unrecognized arguments: (\S+)", _unrecognized),
    (r"argument (--\S+): expected one argument", _no_value),
    (r"Option '([^']+)' is not accepted", _unknown_argument),
    (r"Importing '([^']+)' is not allowed", _not_allowed),
    (r"following arguments are required: (\w+(?:\.\w+)*(?:, \w+(?:\.\w+)*)*)", _missing),
    (r"Expected a dot import path string: ([\w.]+)", _unknown_class),
    (r"module '[\w.]+' has no attribute '\w+'|No module named '[\w.]+'", _import_failed),
    (r"Expected an? ", _wrong_type),
)


def _truncate(value: str, max_length: int = 80) -> str:
    return value if len(value) <= max_length else value[: max_length - 3] + "..."


def _arguments_of(text: str) -> Iterator[str]:
    """Yield the arguments of the classes named in the message."""
    for path in re.findall(r"class_path'?[=:]? ?'(\w+(?:\.\w+)+)'", text):
        module, _, name = path.rpartition(".")
        found = getattr(importlib.import_module(module), name)
        for ancestor in inspect.getmro(found) if inspect.isclass(found) else (found,):
            yield from inspect.signature(ancestor).parameters


def _class_names(key: str) -> Iterator[str]:
    end = key.removesuffix("+").rpartition(".")[2]
    if end == "net":
        yield from models.NETWORKS
    elif end in _CLASSES:
        yield from (found.__name__ for found in _concrete(_CLASSES[end]))


def _concrete(base: type) -> Iterator[type]:
    subclasses: list[type] = base.__subclasses__()
    for found in subclasses:
        if not inspect.isabstract(found) and not found.__name__.startswith("_"):
            yield found
        yield from _concrete(found)
