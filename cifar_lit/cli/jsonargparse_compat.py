"""All uses of private attributes of jsonargparse, argparse and LightningCLI, and overrides of their internal methods.

Written for jsonargparse 4.53 and lightning 2.6.6; when upgrading either, only this file needs to be checked.
"""

import json
from collections.abc import Callable
from typing import Any, NoReturn
from unittest.mock import patch

import torch
from jsonargparse import ArgumentParser, Namespace
from jsonargparse import _completions_jsonschema as completions
from jsonargparse.typing import register_type
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from cifar_lit.cli.parser_errors import one_line
from cifar_lit.errors import InputError

# The default of a callback's argument is an object, which could not be written to the run's config.yaml
register_type(torch.device)


class Parser(LightningArgumentParser):
    """LightningCLI's parser with one-line errors, which checks ``null`` and links arguments of functions."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise InputError with the message shortened to one line."""
        if not self.exit_on_error:  # the parser of a class; the outer parser reports its errors
            super().error(message, ex)
        # The options to suggest are those of the subcommand's parser, which jsonargparse attaches to the error
        parser: Any = getattr(ex, "subcommand_parser", self)
        raise InputError(one_line(message, [action.dest for action in parser._actions])) from ex

    def validate(self, namespace: Namespace, skip_unset: bool = True, *args: Any, **kwargs: Any) -> None:
        """Also refuse ``null`` for an argument of a class whose type does not allow it.

        jsonargparse treats ``null`` as "not set" there, so the constructor would fail with a traceback.
        """
        super().validate(namespace, skip_unset, *args, **kwargs)
        if not self.exit_on_error:  # the parser of a class
            given = namespace.clone()
            for action in self._actions:
                if action.default is None and given.get(action.dest) is None:  # a link may set it later
                    given.pop(action.dest, None)
            super().validate(given, False, *args, **kwargs)

    def add_class_arguments(self, theclass: Any, nested_key: str | None = None, *args: Any, **kwargs: Any) -> list[str]:
        """Accept links to arguments that the class does not have; see ``build_pretrained``."""
        linked = map(str, kwargs.get("linked_targets") or ())
        added: list[str] = super().add_class_arguments(theclass, nested_key, *args, **kwargs)
        for name in linked:
            if "." not in name and not any(action.dest == name for action in self._actions):
                self.add_argument(f"--{name}", type=Any)
        return added

    def add_function_arguments(self, function: Any, nested_key: str | None = None, **kwargs: Any) -> list[str]:
        """Accept links to the arguments of a function, such as ``num_classes`` of timm.create_model.

        jsonargparse passes the internal ``linked_targets`` (https://github.com/mauvilsa/jsonargparse/issues/317), which
        it supports for classes only.
        """
        linked = {str(target) for target in kwargs.pop("linked_targets", None) or ()}
        skip = {*(kwargs.pop("skip", None) or ()), *linked}
        added = super().add_function_arguments(function, nested_key, skip=skip, **kwargs)
        for name in linked:
            self.add_argument(f"--{name}", type=Any)
        return added


class CompatCLI(LightningCLI):
    """LightningCLI that lets a checkpoint replace the model's settings only where its training continues."""

    def _parse_ckpt_path(self) -> None:
        """Keep the configured settings in ``validate`` and ``test``, such as those of test-time augmentation."""
        if self.config.get("subcommand") == "fit":
            super()._parse_ckpt_path()


def subcommand_parser(command_line: LightningCLI, name: str) -> LightningArgumentParser:
    """Return the parser of a subcommand, which LightningCLI does not expose."""
    parser: LightningArgumentParser = command_line._subcommand_parsers[name]
    return parser


def json_schema(parser: ArgumentParser, keep: Callable[[type, list[str]], list[str]]) -> dict[str, Any]:
    """Return the JSON Schema of a parser's configuration files.

    jsonargparse lists every imported subclass of a type, and raises TypeError if the type is a metaclass.
    https://github.com/mauvilsa/jsonargparse/issues/618

    Args:
        parser: The parser.
        keep: Maps a type and the import paths of its subclasses to the paths to list.
    """
    all_paths = completions.get_all_subclass_paths  # type: ignore[attr-defined]

    def kept_paths(class_type: type, *args: Any, **kwargs: Any) -> list[str]:
        return [] if issubclass(class_type, type) else keep(class_type, all_paths(class_type, *args, **kwargs))

    with patch.object(completions, "get_all_subclass_paths", kept_paths):
        schema: dict[str, Any] = json.loads(parser.get_completion_script("jsonschema"))
    return schema
