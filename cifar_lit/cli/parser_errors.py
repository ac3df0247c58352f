"""The command line's errors on one line: which setting is wrong, what was expected, what comes closest."""

import importlib
import inspect
import re
from collections.abc import Iterable, Iterator

from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cifar_lit import models
from cifar_lit.cli.commands import COMMANDS, closest
from cifar_lit.data.augment import Augmentation
from cifar_lit.data.datamodule import ImageDataModule
from cifar_lit.import_allowlist import advice

# The classes that a setting takes, by the end of its key
_CLASSES: dict[str, type] = {
    "optimizer": Optimizer,
    "lr_scheduler": LRScheduler,
    "callbacks": Callback,
    "logger": Logger,
    "augment": Augmentation,
    "data": ImageDataModule,
}


def one_line(message: str, options: Iterable[str]) -> str:
    """What jsonargparse says in many lines, in one.

    Args:
        message: The error message of the parser.
        options: The names of all settings, for the closest one to a misspelt one.
    """
    text = " ".join(message.split())
    for pattern, explain in _EXPLANATIONS:
        if match := re.search(pattern, text):
            # Of a setting within a setting, each is named in turn
            key = ".".join(dict.fromkeys(re.findall(r'Parser key "([^"]+)"', text[: match.start()])))
            return _brief(explain(key, match, text, list(options)), _LONGEST)
    return _brief(text, _LONGEST)


def _unknown_argument(key: str, match: re.Match[str], text: str, options: list[str]) -> str:
    name = match.group(1)
    known = list(_arguments_of(text))
    return f"{key}: there is no setting {name!r}{closest(name, known)}"


def _unknown_class(key: str, match: re.Match[str], text: str, options: list[str]) -> str:
    name = match.group(1)
    known = list(_class_names(key))
    advice = closest(name, known) or (f"; known are {', '.join(sorted(known))}" if known else "")
    return f"{key}: there is no class {name!r}{advice} (a class of another package needs its import path)"


def _unknown_setting(key: str, match: re.Match[str], text: str, options: list[str]) -> str:
    name = match.group(1).lstrip("-")
    return f"there is no setting {name!r}{closest(name, options)} (--help lists them all)"


def _missing(key: str, match: re.Match[str], text: str, options: list[str]) -> str:
    names = [name.partition(".")[2] if name.split(".")[0] in COMMANDS else name for name in match[1].split(", ")]
    if "model.net" in names:
        return "no network is configured; give a configuration, for example --config configs/quickstart.yaml"
    settings = ", ".join(f"{key}.{name}" if key else name for name in names)
    return f"{settings} missing; give it, for example as --{settings.split(', ')[-1]} VALUE (see --help)"


def _wrong_type(key: str, match: re.Match[str], text: str, options: list[str]) -> str:
    if inner := re.search(
        r'Parser key "[^"]+": Expected an? (?:<class \'(\w+)\'>|(.+?))\. Got value: (.+?)(?: - |$)', text
    ):
        kind = inner[1] or inner[2].removeprefix("typing.").replace("Literal[", "one of [")
        return f"{key}: expected {kind}, got {_brief(inner[3].partition(' Given value type')[0])}"
    if failed := re.search(
        r"Problem with given class_path|[Nn]o module named|[Uu]nable to load|has no attribute", text
    ):
        return f"{key}: {text[failed.start() :]}"
    expected = dict.fromkeys(re.findall(r"Expected an? (?:<class '(?:\w+\.)*(\w+)'>|\w+)", text))
    kinds = " or ".join("null" if kind == "NoneType" else kind for kind in expected if kind)
    value = re.search(r"(?:Given value:|Got value:) (.*?)(?:[.]? Got value:|$)", text)
    got = f", got {_brief(value.group(1))}" if value else ""
    return f"{key}: expected {kinds or 'another value'}{got}"


def _not_allowed(key: str, match: re.Match[str], text: str, options: list[str]) -> str:
    return f"{key}: {match.group(1)} {advice(match.group(1))}"


_LONGEST = 330  # letters of a message: three lines
_EXPLANATIONS = (
    (r"Subcommand '\w+' does not accept option '([^']+)'", _unknown_setting),
    (r"unrecognized arguments: (\S+)", _unknown_setting),
    (r"Option '([^']+)' is not accepted", _unknown_argument),
    (r"Importing '([^']+)' is not allowed", _not_allowed),
    (r"following arguments are required: (\w+(?:\.\w+)*(?:, \w+(?:\.\w+)*)*)", _missing),
    (r"Expected a dot import path string: ([\w.]+)", _unknown_class),
    (r"Expected an? ", _wrong_type),
)


def _brief(value: str, most: int = 80) -> str:
    return value if len(value) <= most else value[: most - 3] + "..."


def _arguments_of(text: str) -> Iterator[str]:
    """The arguments of the class that the message speaks of."""
    for path in re.findall(r"class_path'?[=:]? ?'([\w.]+)'", text):
        module, _, name = path.rpartition(".")
        candidates = [getattr(importlib.import_module(module), name)] if module else list(_classes_named(name))
        for candidate in candidates:
            for ancestor in inspect.getmro(candidate) if inspect.isclass(candidate) else (candidate,):
                yield from inspect.signature(ancestor).parameters


def _class_names(key: str) -> Iterator[str]:
    end = key.removesuffix("+").rpartition(".")[2]
    if end == "net":
        yield from models.NETWORKS
    elif end in _CLASSES:
        yield from (found.__name__ for found in _concrete(_CLASSES[end]))


def _classes_named(name: str) -> Iterator[type]:
    for base in _CLASSES.values():
        yield from (found for found in _concrete(base) if found.__name__ == name)


def _concrete(base: type) -> Iterator[type]:
    subclasses: list[type] = base.__subclasses__()
    for found in subclasses:
        if not inspect.isabstract(found) and not found.__name__.startswith("_"):
            yield found
        yield from _concrete(found)
