"""The command-line parser."""

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
