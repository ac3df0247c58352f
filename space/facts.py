"""What a Space tells of the run that it was exported from."""

from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from typing import Any

import yaml

from cifar_lit.bundle import TrainedClassifier
from cifar_lit.checkpoints import CheckpointRun, describe, plain
from cifar_lit.data.datamodule import ImageDataModule
from space.judging import Images


def title_of(trained: TrainedClassifier, config: dict[str, Any], data: ImageDataModule | None) -> str:
    """The page's title: the names of network and data."""
    network = trained.recipe.net["class_path"].rpartition(".")[2]
    root = getattr(data, "root", None)
    kind = config.get("data", {}).get("class_path", "").rpartition(".")[2]
    name = root.resolve().name if kind == "ClassFolders" and root else kind
    return f"{network} on {name}" if name else network


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
        "Images": ", ".join(f"{len(part.rows):,} {part.split}" for part in sets) or "none at hand when it was exported",
        "Mean, deviation": f"{_rounded(trained.recipe.mean)}; {_rounded(trained.recipe.std)} (of pixels in 0 to 1)",
        "Optimizer": _name(model.get("optimizer")),
        "Schedule": _name(model.get("lr_scheduler")),
        "Exported": f"{date.today()}, from {run.file.name}, with torch {version('torch')}",
    }
    if "data" in config:
        data = config["data"]
        facts["Data"] = data["class_path"].rpartition(".")[2]
        facts["Batch size"] = str(data.get("init_args", {}).get("batch_size", ""))
        facts["Seed"] = str(config.get("seed_everything", ""))
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


def _without_empty(settings: Any) -> Any:
    """Without what was left at null, and without folders of the machine that it was trained on."""
    if isinstance(settings, dict):
        hidden = ("root", "cache_dir", "_instantiator")
        parts = {name: _without_empty(part) for name, part in settings.items() if name not in hidden}
        return {name: part for name, part in parts.items() if part not in (None, {}, [])}
    return [_without_empty(part) for part in settings] if isinstance(settings, list) else settings
