"""What a page and a report tell of their run."""

import hashlib
from collections.abc import Collection, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from cifar_lit.training.checkpointing.checkpoint_files import describe, plain
from cifar_lit.training.git_version import commit_of
from space.export.run_data import RunData

_FOLDERS = ("root", "cache_dir", "save_dir", "default_root_dir", "dirpath")  # settings that name places of this machine


def run_metadata(evidence: RunData) -> dict[str, str]:
    """Facts by name, for people."""
    checkpoint, config, recipe = evidence.checkpoint, evidence.config, evidence.trained.recipe
    model = checkpoint.get("hyper_parameters", {})
    parameters = sum(parameter.numel() for parameter in evidence.trained.network.parameters())
    facts = {
        "Network": describe(recipe.net),
        "Parameters": f"{parameters:,}",
        "Trained": f"until epoch {checkpoint['epoch'] + 1}{_planned(config)}, {checkpoint['global_step']:,} steps",
        "Images": _images(evidence),
        "Normalised by": f"mean {_rounded(recipe.mean)}, standard deviation {_rounded(recipe.std)} (pixels in 0 to 1)",
        "Optimizer": _name(model.get("optimizer")),
        "Schedule": _name(model.get("lr_scheduler")),
        "Evaluated": f"{date.today()}, from {evidence.run.file.name}, with torch {version('torch')}",
    }
    if "data" in config:
        data = config["data"]
        facts["Data"] = data["class_path"].rpartition(".")[2]
        facts["Batch size"] = str(data.get("init_args", {}).get("batch_size", ""))
        facts["Seed"] = str(config.get("seed_everything", ""))
    if commit := commit_of(evidence.run.config):
        facts["Commit"] = commit
    return facts


def _images(evidence: RunData) -> str:
    sizes = {} if evidence.data is None else {"train": len(evidence.data.train_set)}
    sizes |= {part.split: len(part.rows) for part in evidence.sets}
    return ", ".join(f"{size:,} {split}" for split, size in sizes.items()) or "none at hand"


def _planned(config: dict[str, Any]) -> str:
    """Of how many epochs the checkpoint is, if that is known."""
    epochs = config.get("trainer", {}).get("max_epochs")
    return f" of {epochs}" if epochs else ""


def _name(recipe: Any) -> str:
    """The class that a recipe names, without its arguments."""
    return describe(recipe).partition("(")[0] if recipe else "none"


def _rounded(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def recipe_text(evidence: RunData) -> str:
    """The settings of the run that a reader would ask for, as YAML."""
    config = evidence.config
    model = config.get("model") or plain(evidence.checkpoint.get("hyper_parameters", {}))
    shown: dict[str, Any] = {"seed_everything": config.get("seed_everything")}
    if "trainer" in config:
        kept = ("max_epochs", "precision", "gradient_clip_val", "accumulate_grad_batches")
        shown["trainer"] = {name: config["trainer"].get(name) for name in kept}
    shown |= {"data": config.get("data"), "model": model}
    shown = _without_empty(_without(shown, {*_FOLDERS, "_instantiator"}))
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)


def digest_of(file: Path) -> str:
    """A name of a file's content, by which a report is told to be of this checkpoint."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def config_to_share(config: dict[str, Any]) -> dict[str, Any]:
    """A run's configuration without what is of one machine or one start: its folders, the version of the run."""
    shared: dict[str, Any] = {
        name: settings if name == "model" else _without(settings, _FOLDERS) for name, settings in config.items()
    }
    if "trainer" in shared:
        shared["trainer"]["logger"] = _without(shared["trainer"].get("logger"), {"version"})
    return shared


def _without(settings: Any, hidden: Collection[str]) -> Any:
    """Settings without those of these names, at any depth."""
    if isinstance(settings, dict):
        return {name: _without(part, hidden) for name, part in settings.items() if name not in hidden}
    return [_without(part, hidden) for part in settings] if isinstance(settings, list) else settings


def _without_empty(settings: Any) -> Any:
    """Without what was left at null."""
    if isinstance(settings, dict):
        parts = {name: _without_empty(part) for name, part in settings.items()}
        return {name: part for name, part in parts.items() if part not in (None, {}, [])}
    return [_without_empty(part) for part in settings] if isinstance(settings, list) else settings
