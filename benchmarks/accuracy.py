"""How soon a recipe reaches its accuracy: `fit` against the bare script of the record, seed by seed."""

import json
import math
import re
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.arms import ROOT, Arm, run_python
from benchmarks.results import FOLDER, machine
from benchmarks.timing import print_table
from cifar_lit.data.folders import ClassFolders

_RUNS = FOLDER / "runs.jsonl"
_SCRIPT = ROOT / "benchmarks" / "scripts" / "airbench94.py"
# What cifar_lit.allocator sets from within
_KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**62), "MALLOC_TOP_PAD_": str(2**28)}


def accuracy(data: str, seeds: list[int] | None = None, arms: list[str] | None = None) -> None:
    """Trains recipes to their end on class folders, in turn, seed by seed; adds each run to benchmarks/runs.jsonl.

    Args:
        data: The folder that holds ``train`` and ``test`` (of CIFAR-10).
        seeds: Of the runs; 0 to 4 by default.
        arms: Names of configurations; ``script`` for the bare script of airbench94, and ``script, memory kept`` for the
            same with the allocator's settings that main.py makes. By default, these three with airbench94.
    """
    with tempfile.TemporaryDirectory() as folder:
        for split in ("train", "test"):
            images = ClassFolders(root=data).load(split)  # type: ignore[arg-type]
            assert images is not None
            as_files = {"images": images.pixels.permute(0, 2, 3, 1).contiguous(), "labels": images.labels}
            torch.save(as_files, f"{folder}/{split}.pt")
        for seed in seeds if seeds is not None else range(5):
            for arm in arms or ["script", "script, memory kept", "airbench94"]:
                found = _script(folder, seed, arm) if arm.startswith("script") else _fit(arm, data, seed)
                run = {"arm": arm, "seed": seed, **found, "machine": machine(), "day": time.strftime("%Y-%m-%d")}
                with _RUNS.open("a") as file:
                    file.write(json.dumps(run) + "\n")
                print(run, flush=True)
    print_runs()


def _script(folder: str, seed: int, arm: str) -> dict[str, float]:
    start = time.perf_counter()
    measured = Arm(_SCRIPT, folder, seed, environment=_KEPT if arm != "script" else {}).measure()
    whole = time.perf_counter() - start
    return {"accuracy": measured["accuracy"], "training": round(measured["training"], 1), "command": round(whole, 1)}


def _fit(name: str, data: str, seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        config = ROOT / "configs" / f"{name}.yaml"
        clock = {"class_path": "benchmarks.clock.EpochClock", "init_args": {"file": f"{folder}/clock.json"}}
        options = ["--data", "ClassFolders", "--data.root", data, "--seed_everything", str(seed)]
        options += ["--trainer.logger.save_dir", folder, "--trainer.callbacks+", json.dumps(clock)]
        start = time.perf_counter()
        run_python([str(ROOT / "main.py"), "fit", "--config", str(config), *options])
        checkpoint = f"{folder}/{name}/version_0/checkpoints/last.ckpt"
        told = run_python([str(ROOT / "main.py"), "test", "--ckpt_path", checkpoint, "--trainer.callbacks", "[]"])
        whole = time.perf_counter() - start  # of both commands, as the script does both
        [found] = re.findall(r"accuracy\D*([\d.]+)", told)
        measured = json.loads(Path(folder, "clock.json").read_text())
    training = sum(measured["training"]) + sum(measured["evaluation"])
    return {"accuracy": float(found), "training": round(training, 1), "command": round(whole, 1)}


def print_runs() -> None:
    """Prints a table of all runs in benchmarks/runs.jsonl: for each recipe, the means and their standard errors."""
    runs = [json.loads(line) for line in _RUNS.read_text().splitlines()]
    rows = []
    for arm in dict.fromkeys(run["arm"] for run in runs):
        of_arm = [run for run in runs if run["arm"] == arm]
        seconds = [statistics.median(run[name] for run in of_arm) for name in ("training", "command")]
        rows.append(
            [arm, str(len(of_arm)), mean_and_error([run["accuracy"] for run in of_arm]), *map("{:.0f}".format, seconds)]
        )
    header = ["recipe", "runs", "test accuracy, mean ± standard error", "training, s (median)", "whole command, s"]
    print_table(header, rows)


def mean_and_error(values: Sequence[float]) -> str:
    """The mean of values with its standard error.

    >>> mean_and_error([0.90, 0.91, 0.92])
    '0.9100 ± 0.0058'
    """
    if len(values) < 2:
        return f"{values[0]:.4f}"
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values) / math.sqrt(len(values)):.4f}"
