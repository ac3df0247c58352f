"""Read checkpoint files, skipping damaged ones; detect a mismatched network."""

import glob
import os
import pickle
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace

from cifar_lit.errors import InputError
from cifar_lit.import_allowlist import check_allowed
from cifar_lit.inference.bundle import Recipe, TrainedClassifier, class_paths
from cifar_lit.training.checkpointing.checkpoint_digest import find_damage
from cifar_lit.training.checkpointing.checkpoint_paths import CheckpointRun, locate_checkpoint
from cifar_lit.training.checkpointing.near_ood import with_best_ood_score
from cifar_lit.training.pretrained import without_pretrained

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
# Settings of the model that come from the data
SET_FROM_DATA = ("num_classes", "class_names", "image_size", "fit", "interpolation", "mean", "std")


def find_checkpoint(wanted: str, runs: str) -> CheckpointRun:
    """Return the checkpoint that the user names.

    Args:
        wanted: A file, or ``last`` or ``best`` for the newest such file; if ``last`` is damaged, the newest
            intact checkpoint of its run.
        runs: The folders of the runs to choose from, for example ``runs/quickstart/*``.

    Raises:
        InputError: if there is none, or ``last`` and all other checkpoints of its run are damaged.
    """
    file = locate_checkpoint(wanted, runs)
    return _newest_intact(file.parent) if wanted == "last" and find_damage(file) else CheckpointRun(file)


def newest_run(runs: str) -> CheckpointRun | None:
    """Return the newest intact checkpoint of the newest run; None without a run or before its first checkpoint.

    Args:
        runs: The folders of the runs to choose from.

    Raises:
        InputError: if none of that run's checkpoints is intact.
    """
    begun = {Path(file).parent: os.path.getmtime(file) for file in glob.glob(f"{runs}/config.yaml")}
    for file in glob.glob(f"{runs}/checkpoints/*.ckpt"):  # the run's folder may have been deleted while it trained
        if os.path.isfile(file):
            begun.setdefault(Path(file).parents[1], os.path.getmtime(file))
    if not begun:
        return None
    folder = max(begun, key=lambda run: begun[run]) / "checkpoints"
    return _newest_intact(folder) if any(folder.glob("*.ckpt")) else None


def _newest_intact(folder: Path) -> CheckpointRun:
    """Return the last checkpoint, its predecessor, or else the newest to resume from; warn if it is not the last."""
    last = folder / LAST
    others = sorted(filter(Path.is_file, folder.glob("*.ckpt")), key=os.path.getmtime, reverse=True)
    for file in dict.fromkeys([last, folder / PREVIOUS, *others]):
        if file.is_file() and find_damage(file) is None and "optimizer_states" in read_checkpoint(file):
            if file != last and os.environ.get("LOCAL_RANK", "0") == "0":  # the first of several processes
                problem = find_damage(last) or "cannot be resumed from" if os.path.lexists(last) else "is missing"
                print(f"warning: {last} {problem}; {file} is used instead", file=sys.stderr)
            return CheckpointRun(file)
    raise InputError(f"no checkpoint in {folder} is intact; choose another with --ckpt_path or start a new run")


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, with its tensors on the CPU.

    Raises:
        InputError: if the file is not an intact checkpoint, or would run code when read.
    """
    try:
        if wrong := find_damage(file):
            raise InputError(f"{file} {wrong}, or is not a checkpoint of this program; use another one")
        checkpoint = torch.load(file, weights_only=True, map_location="cpu", mmap=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{file} is not an intact checkpoint of this program ({reason}); use another one") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise InputError(f"{file} is not a checkpoint of this program; `fit` writes them to runs/*/*/checkpoints")
    return checkpoint


def read_classifier(file: Path) -> TrainedClassifier:
    """Return the trained classifier of a checkpoint, without its training state.

    Raises:
        InputError: if the file is not a checkpoint of this program, or its network cannot be built.
    """
    checkpoint = read_checkpoint(file)
    settings = checkpoint.get("hyper_parameters", {})
    needed = ("net", "class_names", "mean", "std", "flip_tta", "image_size")
    if missing := [name for name in needed if name not in settings]:
        raise InputError(f"{file} is not a checkpoint of this program: its settings have no {', '.join(missing)}")
    found = {name: plain(settings[name]) for name in needed}
    newer = ("fit", "interpolation", "translate_tta", "adaptive_tta")  # missing in checkpoints of early releases
    found |= {name: settings[name] for name in newer if name in settings}
    found |= {"net": without_pretrained(found["net"]), "image_size": tuple(found["image_size"])}
    try:
        for path in class_paths(found["net"]):
            check_allowed(path)
        recipe = Recipe(**found, temperature=checkpoint.get("temperature", 1.0))
        weights = {name.removeprefix("model."): weight for name, weight in checkpoint["state_dict"].items()}
        return with_best_ood_score(TrainedClassifier.from_weights(recipe, weights), file, checkpoint)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def check_same_model(file: Path, stored: Mapping[str, Any], model: Mapping[str, Any], resumed: bool) -> Iterator[str]:
    """Compare a checkpoint's model with the configured one.

    Args:
        file: The checkpoint.
        stored: Its model's settings.
        model: The configured model's settings.
        resumed: Whether training continues, with the checkpoint's settings.

    Yields:
        A sentence for each other setting that differs.

    Raises:
        InputError: if the checkpoint's network differs from the configured one.
    """
    theirs, ours = describe(stored.get("net")), describe(model["net"])
    if theirs != ours:
        raise InputError(
            f"{file} contains the network {theirs}, but the configuration specifies {ours};"
            " use the configuration that it was trained with, or another checkpoint"
        )
    for name in sorted(model.keys() & stored.keys() - {*SET_FROM_DATA, "net"}):
        theirs, ours = plain(stored[name]), plain(model[name])
        if theirs != ours:
            if resumed:
                yield f"model.{name}: the checkpoint's {theirs} is used, not {ours}; a resumed run keeps its settings"
            else:
                yield f"model.{name}: {ours} is used; the checkpoint was trained with {theirs}"


def describe(recipe: Any) -> str:
    """Return a network's class with its arguments, on one line.

    >>> describe({"class_path": "cifar_lit.models.TinyNet", "init_args": {"width": 4, "num_classes": 3}})
    'TinyNet(width=4)'
    """
    recipe = plain(recipe)
    if not isinstance(recipe, dict) or "class_path" not in recipe:
        return str(recipe)
    arguments = recipe.get("init_args", {}) | recipe.get("dict_kwargs", {})
    inner = ", ".join(f"{name}={value}" for name, value in arguments.items() if name not in SET_FROM_DATA)
    return f"{recipe['class_path'].rpartition('.')[2]}({inner})"


def plain(value: Any) -> Any:
    """Return the value as YAML would have it: dicts, lists and scalars."""
    if isinstance(value, Namespace):
        value = value.as_dict()
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value
