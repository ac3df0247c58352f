"""Which code a configuration or a checkpoint may name: this program's, its libraries', and what the user allows.

To import a module is to run it, and a YAML from a stranger may name any: one that lies beside it, or ``os.system``.
"""

import os
import sys
from collections.abc import Iterable, Sequence

from cifar_lit.errors import InputError

VARIABLE = "CIFAR_LIT_ALLOW_IMPORT"  # names separated by commas, as an alternative to the option
OPTION = "--allow_import"
_KNOWN = (
    "callbacks",
    "cifar_lit",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.cli",
    "lightning.pytorch.loggers",
    "lightning.pytorch.plugins",
    "lightning.pytorch.profilers",
    "lightning.pytorch.strategies",
    "timm.create_model",
    "timm.models",
    "torch.nn",
    "torch.optim",
    "torchvision.models",
)
_allowed = set(_KNOWN)


def take_allowed(args: Sequence[str]) -> list[str]:
    """The arguments of the command line without ``--allow_import MODULE``, whose modules are allowed from now on.

    Raises:
        InputError: if the option stands without a module.
    """
    rest, names = [], os.environ.get(VARIABLE, "").split(",")
    remaining = iter(args)
    for argument in remaining:
        name, equals, value = argument.partition("=")
        if name == OPTION:
            names.append(value if equals else next(remaining, ""))
            if not names[-1]:
                raise InputError(f"{OPTION} takes the name of a module of your own, for example {OPTION} my_file")
        else:
            rest.append(argument)
    allow(name.strip().removesuffix(".py") for name in names if name.strip())
    return rest


def allow(modules: Iterable[str]) -> None:
    """Allows these modules, and all that is in them, to be named; and none that were allowed before."""
    _allowed.clear()
    _allowed.update(_KNOWN, modules)
    from jsonargparse import set_parsing_settings  # not needed to show a network

    try:
        set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=sorted(_allowed))
    except ValueError as error:
        raise InputError(f"{OPTION}: {error}") from error


def own_modules() -> list[str]:
    """The user's modules that are allowed, besides what always is."""
    return sorted(_allowed.difference(_KNOWN))


def check_allowed(path: str) -> None:
    """Raises InputError if a thing of this import path may not be named."""
    parts = path.split(".")
    if not any(".".join(parts[:length]) in _allowed for length in range(1, len(parts) + 1)):
        raise InputError(f"{path} {advice(path)}")


def advice(path: str) -> str:
    """What to tell of an import path that is not allowed, after its name."""
    module = path.partition(".")[0]
    if module in sys.stdlib_module_names:
        return "is code from outside, which would run, and nothing that a configuration needs"
    return f"is code from outside, which would run: if you trust it, add {OPTION} {module}"
