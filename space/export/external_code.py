"""Networks from outside this project: what a Space needs to build them without it."""

import ast
import importlib
import inspect
import sys
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
    """What is not this project's own in a network's recipe.

    networks: The import paths that the recipe names.
    requirements: Packages that they need, as in requirements.txt.
    files: The user's own files that they need.
    """

    networks: list[str]
    requirements: list[str]
    files: list[Path]


def find_external_code(recipe: Any) -> ExternalCode:
    """What a recipe needs besides this project's networks.

    Raises:
        InputError: if something of it can neither be installed nor copied.
    """
    networks = sorted(set(class_paths(recipe)) - own_networks())
    requirements: set[str] = set()
    files: dict[str, Path] = {}
    for path in networks:
        _add(path.rpartition(".")[0], requirements, files)
    return ExternalCode(networks, sorted(requirements), sorted(files.values()))


def _add(name: str, requirements: set[str], files: dict[str, Path]) -> None:
    """Adds the package that a module is from, or its file with those that it imports."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or name in files:
        return
    if top in ("cifar_lit", "callbacks", "space"):
        if not name.startswith(("cifar_lit.models", "callbacks.rendering")):
            raise InputError(f"the network needs {name}, which is no part of a Space: only cifar_lit.models is")
        return
    distributions = packages_distributions().get(top)
    if distributions:
        for found in distributions:
            needed = _UNPINNED.get(found, f"{found}=={version(found)}")
            if needed is not None:
                requirements.add(needed)
        return
    file = _file_of(name)
    if "." in name or file is None:
        raise InputError(
            f"the module {name} is neither from an installed package nor a single file that can be copied into the"
            " Space; put the network into one file, or install its package"
        )
    if (Path(file.name)).stem in ("app", "space", "main"):
        raise InputError(f"the network's file {file.name} has a name that the Space needs itself; rename it")
    files[name] = file
    for imported in _imports(file):
        _add(imported, requirements, files)


def _file_of(name: str) -> Path | None:
    try:
        module: ModuleType = importlib.import_module(name)
    except (ImportError, ValueError) as error:
        raise InputError(f"the module {name or 'of the network'}, which the network needs, is not there") from error
    source = inspect.getsourcefile(module)
    return None if source is None or hasattr(module, "__path__") else Path(source)


def _imports(file: Path) -> list[str]:
    """The modules that a file imports anywhere, from outside itself."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise InputError(f"{file.name} imports from its own package, which cannot be copied; make it one file")
            found.append(node.module or "")
    return found
