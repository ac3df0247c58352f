"""Test accuracy of full runs on CIFAR-10, and their time compared with a bare script."""

import json
import math
import re
import shlex
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import FOLDER, commit, machine, replace_section
from benchmarks.variants import ROOT, Variant, run_python
from callbacks.rendering.markdown import table
from cifar_lit.training.tensorboard_reader import read_history

_RUNS = FOLDER / "runs.jsonl"
_SCRIPT = "script"
# The allocator settings of main.py (cifar_lit.malloc) as environment variables, for the script
_KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**62),
    "MALLOC_TOP_PAD_": str(2**28),
}


def accuracy(
    data: str = "data",
    seeds: list[int] | None = None,
    recipes: list[str] | None = None,
    folder: str = "runs/accuracy",
    alone: bool = True,
) -> None:
    """Train recipes to completion, seed by seed, and append each run's test accuracy to benchmarks/runs.jsonl.

    Repeating the command resumes an interrupted run and skips runs that are already in the file.

    Args:
        data: Folder that holds ``cifar-10-batches-py``; downloaded if missing.
        seeds: One run of each recipe per seed; 1 to 5 by default.
        recipes: Names of configurations, each optionally followed by options of ``fit``, or ``script`` for
            benchmarks/scripts/airbench94.py; by default ``script`` and ``airbench94``.
        folder: Where the run folders are kept.
        alone: Whether nothing else runs on this machine. If not, no times are recorded.
    """
    for seed in seeds or range(1, 6):
        for recipe in recipes or [_SCRIPT, "airbench94"]:
            run = {"recipe": recipe, "seed": seed, "machine": machine(), "commit": commit()}
            if any(run.items() <= earlier.items() for earlier in _read_runs()):
                continue
            measured = _run_script(data, seed) if recipe == _SCRIPT else _fit_and_test(recipe, data, seed, folder)
            if not alone:
                measured |= {"training": None, "command": None}
            with _RUNS.open("a") as file:
                file.write(json.dumps(run | measured | {"day": time.strftime("%Y-%m-%d")}) + "\n")
    show_runs()


def _read_runs() -> list[dict[str, Any]]:
    return [json.loads(line) for line in _RUNS.read_text().splitlines()] if _RUNS.exists() else []


def _run_script(data: str, seed: int) -> dict[str, Any]:
    start = time.perf_counter()
    script = ROOT / "benchmarks" / "scripts" / "airbench94.py"
    measured = Variant(script, data, seed, environment=_KEEP_FREED_MEMORY).measure()
    return {
        "accuracy": measured["accuracy"],
        "val_accuracy": None,
        "training": round(measured["training"], 1),
        "command": round(time.perf_counter() - start, 1),
    }


def _fit_and_test(recipe: str, data: str, seed: int, folder: str) -> dict[str, Any]:
    config, *options = shlex.split(recipe)
    runs = Path(folder, re.sub(r"\W+", "_", recipe), f"seed{seed}").absolute()
    run, clock_file = runs / config / "version_0", runs / "clock.json"
    clock = {"class_path": "benchmarks.clock.EpochClock", "init_args": {"file": str(clock_file)}}
    resumed = run.exists()
    start = time.perf_counter()
    run_python(
        [
            *(str(ROOT / "main.py"), "fit", "--config", str(ROOT / "configs" / f"{config}.yaml")),
            *("--data.root", str(Path(data).absolute()), "--seed_everything", str(seed)),
            *("--trainer.logger.save_dir", str(runs), "--trainer.callbacks+", json.dumps(clock), *options, "--resume"),
        ]
    )
    last = str(run / "checkpoints" / "last.ckpt")
    printed = run_python([str(ROOT / "main.py"), "test", "--ckpt_path", last, "--trainer.callbacks", "[]"])
    seconds = time.perf_counter() - start
    [test_accuracy] = re.findall(r"accuracy [^\d\n]*([\d.]+)", printed)
    val_accuracies = read_history(run).get("val/accuracy")
    measured = {"preparation": 0, "training": [], "evaluation": []} if resumed else json.loads(clock_file.read_text())
    training = measured["preparation"] + sum(measured["training"]) + sum(measured["evaluation"])
    return {
        "accuracy": float(test_accuracy),
        "val_accuracy": round(val_accuracies[-1][1], 4) if val_accuracies else None,
        "training": None if resumed else round(training, 1),
        "command": None if resumed else round(seconds, 1),
    }


def show_runs() -> None:
    """Print benchmarks/runs.jsonl as a table, one row per recipe, commit and machine, and put it into RESULTS.md."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for run in _read_runs():
        groups.setdefault((run["recipe"], run["commit"], run["machine"]), []).append(run)
    rows = []
    for (recipe, revision, machine_name), group in groups.items():
        scripts = groups.get((_SCRIPT, revision, machine_name), [])
        rows.append(
            [
                recipe,
                ", ".join(str(run["seed"]) for run in group),
                mean_and_error([run["accuracy"] for run in group]),
                mean_and_error([run["val_accuracy"] for run in group if run["val_accuracy"] is not None]),
                _median_seconds(group, "training"),
                _median_seconds(group, "command"),
                *(compare(group, scripts) if recipe.startswith("airbench94") else ["", ""]),
                f"{group[-1]['day']}, {revision}, {machine_name}",
            ]
        )
    header = ["recipe", "seeds", "test accuracy, mean ± standard error", "validation accuracy", "training, s"]
    header += ["fit and test, s", "training time over the script's", "accuracy minus the script's", "measured"]
    text = table(header, rows, raw=True)
    print(text)
    replace_section("runs", text)


def _median_seconds(runs: Sequence[dict[str, Any]], name: str) -> str:
    seconds = [run[name] for run in runs if run[name] is not None]
    return f"{statistics.median(seconds):.0f}" if seconds else ""


def compare(runs: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> list[str]:
    """Return two table cells that compare runs with others of the same seeds; empty ones without a common seed.

    The first is the median ratio of training times with its range, the second the mean difference in accuracy with its
    standard error.

    >>> slow, fast = {"seed": 0, "training": 10, "accuracy": 0.9}, {"seed": 0, "training": 8, "accuracy": 0.91}
    >>> compare([fast], [slow])
    ['0.80 (0.80 to 0.80, n=1)', '0.0100']
    """
    others_by_seed = {run["seed"]: run for run in others}
    pairs = [(run, others_by_seed[run["seed"]]) for run in runs if run["seed"] in others_by_seed]
    ratios = [run["training"] / other["training"] for run, other in pairs if run["training"] and other["training"]]
    time_cell = ""
    if ratios:
        time_cell = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, n={len(ratios)})"
    return [time_cell, mean_and_error([run["accuracy"] - other["accuracy"] for run, other in pairs])]


def mean_and_error(values: Sequence[float]) -> str:
    """Return the mean with its standard error as text.

    >>> mean_and_error([0.90, 0.91, 0.92])
    '0.9100 ± 0.0058'
    """
    if len(values) < 2:
        return f"{values[0]:.4f}" if values else ""
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values) / math.sqrt(len(values)):.4f}"
