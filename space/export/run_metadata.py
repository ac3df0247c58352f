"""Metadata and configuration of a run, as a Space and a report show them."""

from collections.abc import Collection, Sequence
from datetime import date
from importlib.metadata import version
from typing import Any

import yaml

from cifar_lit.training.checkpointing.checkpoint_files import describe, plain
from cifar_lit.training.git_version import commit_of
from space.export.run_data import RunData

# Settings with paths of this machine
_PATHS = ("root", "cache_dir", "decisions", "votes", "save_dir", "default_root_dir", "dirpath")


def run_metadata(run: RunData) -> dict[str, str]:
    """Return metadata by name, for display."""
    checkpoint, config, recipe = run.checkpoint, run.config, run.classifier.recipe
    model, data = checkpoint.get("hyper_parameters", {}), config.get("data", {})
    parameters = sum(parameter.numel() for parameter in run.classifier.network.parameters())
    max_epochs = config.get("trainer", {}).get("max_epochs")
    epochs = f"{checkpoint['epoch'] + 1} of {max_epochs}" if max_epochs else str(checkpoint["epoch"] + 1)
    sizes = {} if run.data is None else {"train": len(run.data.train_set)}
    sizes |= {split.name: len(split.rows) for split in run.splits}
    metadata = {
        "Network": describe(recipe.net),
        "Parameters": f"{parameters:,}",
        "Trained": f"to epoch {epochs}, {checkpoint['global_step']:,} steps",
        "Images": ", ".join(f"{size:,} {split}" for split, size in sizes.items()) or "not available",
        "Normalization": f"mean {_rounded(recipe.mean)}, standard deviation {_rounded(recipe.std)} (pixels in 0 to 1)",
        "Optimizer": _class_name(model.get("optimizer")),
        "Schedule": _class_name(model.get("lr_scheduler")),
        "Evaluated": f"{date.today()}, from {run.checkpoint_run.file.name}, with torch {version('torch')}",
    }
    if data:
        metadata["Data"] = data["class_path"].rpartition(".")[2]
        metadata["Batch size"] = str(data.get("init_args", {}).get("batch_size", ""))
        metadata["Seed"] = str(config.get("seed_everything", ""))
    if commit := commit_of(run.checkpoint_run.config):
        metadata["Commit"] = commit
    return metadata


def _class_name(recipe: Any) -> str:
    return describe(recipe).partition("(")[0] if recipe else "none"


def _rounded(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def recipe_text(run: RunData) -> str:
    """Return the most important settings of the run, as YAML."""
    config = run.config
    model = config.get("model") or plain(run.checkpoint.get("hyper_parameters", {}))
    settings: dict[str, Any] = {"seed_everything": config.get("seed_everything")}
    if "trainer" in config:
        kept = ("max_epochs", "precision", "gradient_clip_val", "accumulate_grad_batches")
        settings["trainer"] = {name: config["trainer"].get(name) for name in kept}
    settings |= {"data": config.get("data"), "model": model}
    settings = _without(settings, {*_PATHS, "_instantiator"}, (None, {}, []))
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def config_to_share(config: dict[str, Any]) -> dict[str, Any]:
    """Return a run's configuration without paths of this machine and without the run's version."""
    shared: dict[str, Any] = {
        name: settings if name == "model" else _without(settings, _PATHS) for name, settings in config.items()
    }
    if "trainer" in shared:
        shared["trainer"]["logger"] = _without(shared["trainer"].get("logger"), {"version"})
    return shared


def _without(settings: Any, hidden: Collection[str], values: Sequence[Any] = ()) -> Any:
    """Return settings without those of the hidden names, and without those of these values, at any depth."""
    if isinstance(settings, dict):
        shown = {name: _without(value, hidden, values) for name, value in settings.items() if name not in hidden}
        return {name: value for name, value in shown.items() if value not in values}
    return [_without(value, hidden, values) for value in settings] if isinstance(settings, list) else settings
