"""External networks: the packages and files that a Space needs to build them."""

import ast
import importlib
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any

from cifar_lit.errors import InputError
from cifar_lit.inference.bundle import class_paths, own_networks

_UNPINNED = {"torch": None, "torchvision": "torchvision"}  # torchvision's version follows torch's


@dataclass(frozen=True)
class ExternalCode:
    """External code that a network's recipe needs.

    networks: The import paths in the recipe.
    requirements: Required packages, as in requirements.txt.
    files: Required files of the user.
    """

    networks: list[str]
    requirements: list[str]
    files: list[Path]


def find_external_code(recipe: Any) -> ExternalCode:
    """Find the external code that a recipe needs.

    Raises:
        InputError: if some of it can neither be installed nor copied.
    """
    networks = sorted(set(class_paths(recipe)) - own_networks())
    requirements: set[str] = set()
    files: dict[str, Path] = {}
    for path in networks:
        _add(path.rpartition(".")[0], requirements, files)
    return ExternalCode(networks, sorted(requirements), sorted(files.values()))


def local_files(recipe: Any) -> Iterator[str]:
    """Yield the files that a recipe names, at any depth, which exist only on this machine."""
    if isinstance(recipe, Mapping | list):
        for value in recipe.values() if isinstance(recipe, Mapping) else recipe:
            yield from local_files(value)
    elif isinstance(recipe, str) and os.path.isfile(recipe):
        yield recipe


def _add(name: str, requirements: set[str], files: dict[str, Path]) -> None:
    """Add a module's package, or its file and what that imports."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or name in files:
        return
    if top in ("cifar_lit", "callbacks", "space"):
        if not name.startswith(("cifar_lit.models", "callbacks.rendering")):
            raise InputError(
                f"the network imports {name}, which a Space does not contain; import only cifar_lit.models"
            )
        return
    distributions = packages_distributions().get(top)
    if distributions:
        pins = (_UNPINNED.get(found, f"{found}=={version(found)}") for found in distributions)
        requirements.update(pin for pin in pins if pin is not None)
        return
    file = _file_of(name)
    if "." in name or file is None:
        raise InputError(
            f"the module {name} is neither part of an installed package nor a single file that can be copied into the"
            " Space; move the network to one file, or install its package"
        )
    if file.stem in ("app", "space", "main"):
        raise InputError(f"the network's file {file.name} has the name of a module of the Space; rename it")
    files[name] = file
    for imported in _imports(file):
        _add(imported, requirements, files)


def _file_of(name: str) -> Path | None:
    try:
        module: ModuleType = importlib.import_module(name)
    except (ImportError, ValueError) as error:
        raise InputError(f"the network needs the module {name!r}, which cannot be imported ({error})") from error
    source = inspect.getsourcefile(module)
    return None if source is None or Path(source).name == "__init__.py" else Path(source)


def _imports(file: Path) -> list[str]:
    """Return the modules that a file imports anywhere."""
    modules = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise InputError(
                    f"{file.name} imports from its own package, which cannot be copied; merge it into one file"
                )
            modules.append(node.module or "")
    return modules
