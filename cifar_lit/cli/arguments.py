"""Checks and changes of the arguments that need neither torch nor Lightning: a mistake is reported at once."""

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cifar_lit.cli.yaml_check import check_yaml
from cifar_lit.errors import InputError
from cifar_lit.training.checkpointing.checkpoint_paths import locate_checkpoint

_ALL_RUNS = "runs/*/*"


def split_options(args: Sequence[str], *names: str) -> tuple[list[str], list[str]]:
    """Return the values given to an option under any of its names, in order, and the other arguments.

    >>> split_options(["fit", "-c", "a.yaml", "--config=b.yaml", "--lr_find", "true"], "-c", "--config")
    (['a.yaml', 'b.yaml'], ['fit', '--lr_find', 'true'])
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(*names, dest="values", nargs="?", const="", action="append", default=[])
    found, rest = parser.parse_known_args(args)
    return found.values, rest


def with_evaluation_defaults(args: Sequence[str]) -> list[str]:
    """Add the best checkpoint and float32 to the arguments of ``validate`` and ``test``, unless they name others.

    ``predict``, ``report`` and the Space evaluate in float32, too.

    >>> with_evaluation_defaults(["test", "--ckpt_path", "last"])
    ['test', '--ckpt_path', 'last', '--trainer.precision', '32-true']
    """
    if args[0] not in ("validate", "test"):
        return list(args)
    added = [] if split_options(args, "--ckpt_path", "--help", "--print_config")[0] else ["--ckpt_path", "best"]
    if not split_options(args, "--trainer.precision")[0]:
        added += ["--trainer.precision", "32-true"]
    return [*args, *added]


def with_explicit_true(args: Sequence[str], *names: str) -> list[str]:
    """Return the arguments with ``true`` inserted after each of the options that has no value.

    >>> with_explicit_true(["fit", "--resume", "--config", "a.yaml"], "--resume")
    ['fit', '--resume', 'true', '--config', 'a.yaml']
    """
    full = []
    for argument, following in zip(args, [*args[1:], "--"], strict=False):
        full += [argument, "true"] if argument in names and following.startswith("-") else [argument]
    return full


def with_data_of_configs(args: Sequence[str]) -> list[str]:
    """Return the arguments with the section ``data`` of each ``--config FILE`` as ``--data``, before the others.

    Raises:
        InputError: if none of the files has such a section.
    """
    files, rest = split_options(args, "-c", "--config")
    sections = [section for file in files if (section := (yaml.safe_load(Path(file).read_text()) or {}).get("data"))]
    if files and not sections and not split_options(rest, "--data")[0]:
        raise InputError(f"{files[0]} has no section data; add one, or use --data NAME")
    texts = [section if isinstance(section, str) else json.dumps(section) for section in sections]
    return [*(word for text in texts for word in ("--data", text)), *rest]


def check_files(args: Sequence[str], reads_checkpoint: bool, positional: str | None) -> None:
    """Check the files that the arguments of a command name.

    Args:
        args: Arguments after the command's name.
        reads_checkpoint: Whether the command reads the newest ``best.ckpt`` if no other checkpoint is named.
        positional: Name of the argument that collects positional values, which are files or folders.

    Raises:
        InputError: if a file does not exist, or a configuration is not valid YAML.
    """
    configs, _ = split_options(args, "-c", "--config")
    for config in configs:
        check_yaml(Path(config))
    for checkpoint in split_options(args, "--ckpt_path")[0] or ["best"] * reads_checkpoint:
        if checkpoint not in ("best", "last") or not configs:  # a configuration names the folder of its runs
            locate_checkpoint(checkpoint, _ALL_RUNS)
    if positional:
        options = next((number for number, value in enumerate(args) if value.startswith("-")), len(args))
        for path in args[:options]:
            if not Path(path).exists():
                raise InputError(f"no such file or folder: {path}")


def merge_callbacks(callbacks: list[Any] | None, defaults: list[Any]) -> list[Any]:
    """Return the callbacks without the default ones whose class was added again with ``callbacks+:``.

    So ``callbacks+:`` reconfigures the default callback of the same class, and adds any other.

    >>> from jsonargparse import Namespace
    >>> default, own = Namespace(class_path="A", init_args=1), Namespace(class_path="A", init_args=2)
    >>> merge_callbacks([default, own], [default]) == [own]
    True
    >>> merge_callbacks([own, default], [default]) == [own, default]
    True
    """
    listed = callbacks or []
    if listed[: len(defaults)] != defaults:
        return listed
    added = listed[len(defaults) :]
    replaced = {callback.class_path for callback in added}
    return [callback for callback in defaults if callback.class_path not in replaced] + added
