"""Allowlist of the modules that a configuration or a checkpoint may import.

Importing a module runs its code, and a YAML file from an untrusted source may name any module, even ``os.system`` or
a file shipped with it. Only this program, its libraries and modules the user allows are imported.
"""

import os
import sys
from collections.abc import Sequence

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


def allow(names: Sequence[str]) -> None:
    """Allow these modules and those of the variable, with their members, instead of those allowed by earlier calls.

    Raises:
        InputError: if one of them is empty or not a module's name.
    """
    if "" in names:
        raise InputError(f"{OPTION} needs the name of one of your modules, for example {OPTION} my_file")
    modules = (name.strip().removesuffix(".py") for name in (*os.environ.get(VARIABLE, "").split(","), *names))
    _allowed.clear()
    _allowed.update(_BUILT_IN, filter(None, modules))
    from jsonargparse import set_parsing_settings  # slow to import; ``--help`` does without

    try:
        set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=sorted(_allowed))
    except ValueError as error:
        raise InputError(f"{OPTION}: {error}") from error


def allow_options() -> list[str]:
    """Return the options that allow the user's modules again."""
    return [word for module in sorted(_allowed.difference(_BUILT_IN)) for word in (OPTION, module)]


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
