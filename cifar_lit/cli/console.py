"""Console output at the end of a command: a table of metrics and the next commands."""

import os
import sys
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from cifar_lit.import_allowlist import OPTION, own_modules


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


def split_metrics(split: str, metrics: Mapping[str, object]) -> dict[str, float]:
    """Return the logged loss and accuracy of a split.

    >>> split_metrics("val", {"val/loss": 0.25, "val/accuracy": 0.5, "train/loss": 1.0})
    {'loss': 0.25, 'accuracy': 0.5}
    """
    return {
        name: float(metrics[f"{split}/{name}"])  # type: ignore[arg-type]
        for name in ("loss", "accuracy")
        if f"{split}/{name}" in metrics
    }


def print_next_steps(checkpoint: str, run_folder: str) -> None:
    """Print the checkpoint's path and the commands that test it, demo it, and open TensorBoard."""
    # set by `uv run`, without which the shell finds neither the packages nor tensorboard
    prefix = "uv run " if "UV" in os.environ else ""
    program = f"{prefix or 'python '}{sys.argv[0]}"
    allowed = "".join(f" {OPTION} {name}" for name in own_modules())
    print(f"Checkpoint:  {checkpoint}")
    print(f"Test:        {program} test --ckpt_path {checkpoint}{allowed}")
    print(f"Demo:        {program} demo --ckpt_path {checkpoint}{allowed}")
    print(f"TensorBoard: {prefix}tensorboard --logdir {run_folder} --samples_per_plugin images=100")
