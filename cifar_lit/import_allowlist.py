"""Allowlist of the modules that a configuration or a checkpoint may import.

Importing a module runs its code, and a YAML file from an untrusted source may name any module, even ``os.system`` or
a file shipped with it. Only this program, its libraries and modules the user allows are imported.
"""

import os
import sys
from collections.abc import Iterable, Sequence

from cifar_lit.errors import InputError

VARIABLE = "CIFAR_LIT_ALLOW_IMPORT"  # comma-separated; in addition to the option
OPTION = "--allow_import"
_BUILT_IN = (
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
_allowed = set(_BUILT_IN)


def split_allow_import(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments without ``--allow_import MODULE``, and the modules given by it or by the variable.

    Raises:
        InputError: if the option has no value.
    """
    rest, names = [], os.environ.get(VARIABLE, "").split(",")
    remaining = iter(args)
    for argument in remaining:
        name, equals, value = argument.partition("=")
        if name == OPTION:
            names.append(value if equals else next(remaining, ""))
            if not names[-1]:
                raise InputError(f"{OPTION} needs the name of one of your modules, for example {OPTION} my_file")
        else:
            rest.append(argument)
    return rest, [name.strip().removesuffix(".py") for name in names if name.strip()]


def allow(modules: Iterable[str]) -> None:
    """Allow these modules and their members, instead of those allowed by earlier calls."""
    _allowed.clear()
    _allowed.update(_BUILT_IN, modules)
    from jsonargparse import set_parsing_settings  # a Space does not install it

    try:
        set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=sorted(_allowed))
    except ValueError as error:
        raise InputError(f"{OPTION}: {error}") from error


def own_modules() -> list[str]:
    """Return the modules allowed by the user, sorted."""
    return sorted(_allowed.difference(_BUILT_IN))


def check_allowed(path: str) -> None:
    """Raise InputError if an import path is not allowed."""
    parts = path.split(".")
    if not any(".".join(parts[:length]) in _allowed for length in range(1, len(parts) + 1)):
        raise InputError(f"{path} {denial_reason(path)}")


def denial_reason(path: str) -> str:
    """Return why an import path is not allowed and what to do, to follow the path in an error message."""
    module = path.partition(".")[0]
    if module in sys.stdlib_module_names:
        return "may not be imported from a configuration, since it could run arbitrary code; remove it"
    return f"is external code that would run on import; if you trust it, add {OPTION} {module}"
