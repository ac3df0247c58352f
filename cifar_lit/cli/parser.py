"""Command-line parser, and functions that inspect the arguments before parsing."""

from collections.abc import Sequence
from typing import NoReturn

from cifar_lit.cli.jsonargparse_compat import CompatParser, option_names
from cifar_lit.cli.parser_errors import one_line
from cifar_lit.errors import InputError


class Parser(CompatParser):
    """A parser whose errors are one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise InputError with the message shortened to one line."""
        if not self.exit_on_error:  # the parser of a class; the outer parser reports its errors
            super().error(message, ex)
        raise InputError(one_line(message, option_names(self, ex))) from ex


def option_values(args: Sequence[str], *names: str) -> list[str]:
    """Return the values given to an option under any of its names, in order.

    >>> option_values(["fit", "-c", "a.yaml", "--config=b.yaml", "--lr_find", "true"], "-c", "--config")
    ['a.yaml', 'b.yaml']
    """
    values = []
    for argument, following in zip(args, [*args[1:], ""], strict=False):
        name, equals, value = argument.partition("=")
        if name in names:
            values.append(value if equals else following)
    return values


def with_explicit_true(args: Sequence[str], name: str) -> list[str]:
    """Return the arguments with ``true`` inserted after an option that has no value.

    >>> with_explicit_true(["fit", "--resume", "--config", "a.yaml"], "--resume")
    ['fit', '--resume', 'true', '--config', 'a.yaml']
    """
    full = []
    for argument, following in zip(args, [*args[1:], "--"], strict=False):
        full += [argument, "true"] if argument == name and following.startswith("-") else [argument]
    return full
