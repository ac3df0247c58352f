"""Print the results of a command in the terminal: tables, and the next commands."""

import os
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cifar_lit.evaluation.significance import wilson
from cifar_lit.import_allowlist import allow_options

_MAX_GAP = 0.15  # between the accuracies on training and validation images


def print_metrics(title: str, columns: Mapping[str, Mapping[str, float]]) -> None:
    """Print a table of metrics.

    Args:
        title: Title of the table.
        columns: Maps each column heading to its metrics by name; missing metrics are left blank.
    """
    table = Table(title=title, title_justify="left")
    table.add_column()
    for heading in columns:
        table.add_column(heading, justify="right")
    for name in dict.fromkeys(name for metrics in columns.values() for name in metrics):
        cells = [f"{metrics[name]:.4f}" if name in metrics else "" for metrics in columns.values()]
        table.add_row(name, *cells)
    Console(soft_wrap=True).print(table)


def split_metrics(split: str, metrics: Mapping[str, object], monitor: str | None = None) -> dict[str, float]:
    """Return the logged loss and accuracy of a split, and the monitored metric (``val/macro_f1``).

    >>> split_metrics("val", {"val/loss": 0.25, "val/accuracy": 0.5, "train/loss": 1.0})
    {'loss': 0.25, 'accuracy': 0.5}
    """
    return {
        name: float(metrics[f"{split}/{name}"])  # type: ignore[arg-type]
        for name in dict.fromkeys(("loss", "accuracy", (monitor or "val/loss").partition("/")[2]))
        if f"{split}/{name}" in metrics
    }


def overfitting_hint(train: Mapping[str, float], val: Mapping[str, float]) -> str:
    """Return what to do if the network classifies its training images much better than others; else an empty string.

    Args:
        train: Metrics of the training images.
        val: Metrics of the validation images.

    >>> overfitting_hint({"accuracy": 0.99}, {"accuracy": 0.93})
    ''
    """
    if train.get("accuracy", 0) - val.get("accuracy", 1) < _MAX_GAP:
        return ""
    return (
        f"The network is right on {train['accuracy']:.0%} of the training images, but only on {val['accuracy']:.0%} of"
        " the validation images. Start from pretrained weights (configs/finetune.yaml), augment more (data.augment:"
        " RandomResizedCrop, TrivialAugment; data.mixup), or add images."
    )


def print_accuracy(split: str, correct: int, images: int) -> None:
    """Print the accuracy on a split with its confidence interval."""
    low, high = wilson(correct, images)
    print(
        f"{correct:,} of {images:,} {split} images are classified correctly: {correct / images:.2%}"
        f" (95% interval {low:.2%} to {high:.2%})"
    )


def print_predictions(rows: Sequence[tuple[str, Sequence[tuple[str, float]], bool | None]], max_rows: int = 20) -> None:
    """Print a table of predictions.

    Args:
        rows: For each image, its file, its most likely classes with their probabilities, and whether it may be none
            of the classes.
        max_rows: Number of images to print; the others are counted.
    """
    table = Table()
    table.add_column("file", overflow="fold")
    for rank in range(1, 1 + max((len(classes) for _, classes, _ in rows), default=0)):
        table.add_column(str(rank))
    verdicts = any(is_ood for _, _, is_ood in rows[:max_rows])
    if verdicts:
        table.add_column("none of the classes")
    for file, classes, is_ood in rows[:max_rows]:
        cells = [f"{name} {prob:.1%}" for name, prob in classes] + ["possibly" if is_ood else ""] * verdicts
        table.add_row(escape(file), *map(escape, cells))
    Console(soft_wrap=True).print(table)
    if len(rows) > max_rows:
        print(f"and {len(rows) - max_rows:,} more")


def print_next_steps(checkpoint: str, commands: Sequence[str], run_folder: str) -> None:
    """Print the commands to run next with a checkpoint, and the one that opens TensorBoard."""
    allowed = "".join(f" {word}" for word in allow_options())
    for command in commands:
        print(f"{command.capitalize() + ':':<13}{program()} {command} --ckpt_path {checkpoint}{allowed}")
    prefix = "uv run " if "UV" in os.environ else ""
    print(f"TensorBoard: {prefix}tensorboard --logdir {run_folder} --samples_per_plugin images=100")


def program() -> str:
    """Return how the user called this program; without ``uv run``, which sets UV, the shell finds no packages."""
    return f"{'uv run' if 'UV' in os.environ else 'python'} {sys.argv[0]}"
