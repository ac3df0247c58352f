"""What a Space tells of the run that it was exported from."""

import copy
import hashlib
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from cifar_lit.bundle import TrainedClassifier
from cifar_lit.checkpoints import CheckpointRun, describe, plain
from cifar_lit.commit import commit_of
from space.judging import Images


def title_of(trained: TrainedClassifier, config: dict[str, Any]) -> str:
    """The page's title: the names of network and data."""
    network = trained.recipe.net["class_path"].rpartition(".")[2]
    name = data_name(config)
    return f"{network} on {name}" if name else network


def data_name(config: dict[str, Any]) -> str:
    """The name of a run's data: that of the folder, for one's own images; empty if it is not known."""
    settings = config.get("data", {})
    root = settings.get("init_args", {}).get("root")
    kind: str = settings.get("class_path", "").rpartition(".")[2]
    return Path(root).resolve().name if kind == "ClassFolders" and root else kind


def run_facts(
    trained: TrainedClassifier,
    run: CheckpointRun,
    checkpoint: dict[str, Any],
    config: dict[str, Any],
    sets: Sequence[Images],
) -> dict[str, str]:
    """Facts by name, for people."""
    model = checkpoint.get("hyper_parameters", {})
    parameters = sum(parameter.numel() for parameter in trained.network.parameters())
    facts = {
        "Network": describe(trained.recipe.net),
        "Parameters": f"{parameters:,}",
        "Trained": f"{checkpoint['epoch'] + 1}{_planned(config)} epochs, {checkpoint['global_step']:,} steps",
        "Images": ", ".join(f"{len(part.rows):,} {part.split}" for part in sets) or "none at hand",
        "Mean, deviation": f"{_rounded(trained.recipe.mean)}; {_rounded(trained.recipe.std)} (of pixels in 0 to 1)",
        "Optimizer": _name(model.get("optimizer")),
        "Schedule": _name(model.get("lr_scheduler")),
        "Read": f"{date.today()}, from {run.file.name}, with torch {version('torch')}",
    }
    if "data" in config:
        data = config["data"]
        facts["Data"] = data["class_path"].rpartition(".")[2]
        facts["Batch size"] = str(data.get("init_args", {}).get("batch_size", ""))
        facts["Seed"] = str(config.get("seed_everything", ""))
    if commit := commit_of(run.config):
        facts["Commit"] = commit
    return facts


def _planned(config: dict[str, Any]) -> str:
    """Of how many epochs the checkpoint is, if that is known."""
    epochs = config.get("trainer", {}).get("max_epochs")
    return f" of {epochs}" if epochs else ""


def _name(recipe: Any) -> str:
    """The class that a recipe names, without its arguments."""
    return describe(recipe).partition("(")[0] if recipe else "none"


def _rounded(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def recipe_text(config: dict[str, Any], checkpoint: dict[str, Any]) -> str:
    """The settings of the run that a reader would ask for, as YAML."""
    model = config.get("model") or plain(checkpoint.get("hyper_parameters", {}))
    shown: dict[str, Any] = {"seed_everything": config.get("seed_everything")}
    if "trainer" in config:
        kept = ("max_epochs", "precision", "gradient_clip_val", "accumulate_grad_batches")
        shown["trainer"] = {name: config["trainer"].get(name) for name in kept}
    shown |= {"data": config.get("data"), "model": model}
    return yaml.safe_dump(_without_empty(shown), sort_keys=False, allow_unicode=True)


def digest_of(file: Path) -> str:
    """A name of a file's content, by which a report is told to be of this checkpoint."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def config_to_share(config: dict[str, Any]) -> dict[str, Any]:
    """A run's configuration without what is of one machine or one start: the folders of data and runs, the version."""
    shared = copy.deepcopy(config)
    for name in ("root", "cache_dir"):
        shared.get("data", {}).get("init_args", {}).pop(name, None)
    for name in ("save_dir", "version"):
        shared.get("trainer", {}).get("logger", {}).get("init_args", {}).pop(name, None)
    return shared


def _without_empty(settings: Any) -> Any:
    """Without what was left at null, and without folders of the machine that it was trained on."""
    if isinstance(settings, dict):
        hidden = ("root", "cache_dir", "_instantiator")
        parts = {name: _without_empty(part) for name, part in settings.items() if name not in hidden}
        return {name: part for name, part in parts.items() if part not in (None, {}, [])}
    return [_without_empty(part) for part in settings] if isinstance(settings, list) else settings
