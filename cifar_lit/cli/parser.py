"""The parser of the command line, whose errors are one clear line."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from cifar_lit.cli.parser_errors import one_line
from cifar_lit.errors import InputError


class Parser(LightningArgumentParser):
    """LightningCLI's parser, whose errors are one clear line, and whose networks may be functions."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises the message, shortened to what the user has to mend."""
        if (
            not self.exit_on_error
        ):  # the parser of a class inside a setting, whose errors are the outer parser's to tell
            super().error(message, ex)
        options = [action.dest for action in self._actions]
        subparser = getattr(ex, "subcommand_parser", None)  # jsonargparse tells which command's parser found the error
        if subparser is not None:
            options = [action.dest for action in subparser._actions]
        raise InputError(one_line(message, options)) from ex

    def validate(self, namespace: Namespace, skip_unset: bool = True, *args: Any, **kwargs: Any) -> None:
        """As jsonargparse's, which lets ``null`` pass for an argument of a class that has another default."""
        super().validate(namespace, skip_unset, *args, **kwargs)
        if not self.exit_on_error:  # the parser of a class
            given = namespace.clone()
            for action in self._actions:
                if action.default is None and given.get(action.dest) is None:  # it may get its value by a link
                    given.pop(action.dest, None)
            super().validate(given, False, *args, **kwargs)

    def add_function_arguments(self, function: Any, nested_key: str | None = None, **kwargs: Any) -> list[str]:
        """As jsonargparse's, for a function that gets an argument by a link (``num_classes`` of timm.create_model).

        jsonargparse 4.53 links to the arguments of classes only.
        """
        linked = {str(target) for target in kwargs.pop("linked_targets", None) or ()}
        skip = {*(kwargs.pop("skip", None) or ()), *linked}
        added = super().add_function_arguments(function, nested_key, skip=skip, **kwargs)
        for name in linked:
            self.add_argument(f"--{name}", type=Any)
        return added


def option_values(args: Sequence[str], *names: str) -> list[str]:
    """The values given to an option, whichever of its names was used, in order.

    >>> option_values(["fit", "-c", "a.yaml", "--config=b.yaml", "--lr_find", "true"], "-c", "--config")
    ['a.yaml', 'b.yaml']
    """
    values = []
    for argument, following in zip(args, [*args[1:], ""], strict=False):
        name, equals, value = argument.partition("=")
        if name in names:
            values.append(value if equals else following)
    return values


def flag(args: Sequence[str], name: str) -> list[str]:
    """The arguments, with ``true`` after an option that stands without a value.

    >>> flag(["fit", "--resume", "--config", "a.yaml"], "--resume")
    ['fit', '--resume', 'true', '--config', 'a.yaml']
    """
    full = []
    for argument, following in zip(args, [*args[1:], "--"], strict=False):
        full += [argument, "true"] if argument == name and following.startswith("-") else [argument]
    return full


def check_yaml(file: Path) -> None:
    """Raises InputError, naming the file and the line, if it is not a YAML mapping."""
    try:
        content = yaml.safe_load(file.read_text())
    except OSError as error:
        raise InputError(f"--config: {file} cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).replace('in "<unicode string>", ', "").split())
        raise InputError(f"{file} is not valid YAML: {reason}") from error
    if not isinstance(content, dict):
        raise InputError(f"{file} must hold settings (`name: value` lines), got {type(content).__name__}")
    for name in _GROUPS:
        if not isinstance(content.get(name, {}), dict):  # which the parser would pass over
            raise InputError(f"{file}: {name} must hold settings (`name: value` lines), got {content[name]}")
    if content.get("data", "") is None:  # which the parser would call missing
        raise InputError(f"{file}: data must name a class (`class_path: CIFAR10`), got None")
    _check_classes(file, content, "")


def _check_classes(file: Path, content: Any, place: str) -> None:
    """Raises InputError if something else stands beside a class's path than its arguments, or one of these names is
    misspelt: the parser would tell of it at length, and not name it."""
    if isinstance(content, dict):
        is_class = not content.keys().isdisjoint(_OF_CLASSES)
        for name in content.keys() - set(_OF_CLASSES):
            near = difflib.get_close_matches(str(name), _OF_CLASSES, n=1, cutoff=0.6 if is_class else 0.85)
            if is_class or near:
                meant = f"did you mean {near[0]!r}?" if near else "a class's arguments belong under init_args"
                raise InputError(f"{file}: {place}: there is no setting {name!r} here; {meant}")
        for name, part in content.items():
            _check_classes(file, part, f"{place}.{name}" if place else str(name))
    elif isinstance(content, list):
        for part in content:
            _check_classes(file, part, place)


_GROUPS = ("trainer", "model", "best_checkpoint", "last_checkpoint")
_OF_CLASSES = ("class_path", "init_args", "dict_kwargs")
