"""How soon a recipe reaches its accuracy: `fit` against the bare script of the record, seed by seed."""

import json
import math
import re
import shlex
import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from benchmarks.arms import ROOT, Arm, run_python
from benchmarks.results import FOLDER, commit, machine, put, table
from cifar_lit.data.folders import ClassFolders
from cifar_lit.history import read_history

_RUNS = FOLDER / "runs.jsonl"
_SCRIPT = ROOT / "benchmarks" / "scripts" / "airbench94.py"
_PLAIN, _WITH_MEMORY = "script", "script, memory kept"
# What cifar_lit.allocator sets from within, for a script that does not
_KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**62), "MALLOC_TOP_PAD_": str(2**28)}


def accuracy(data: str, seeds: list[int] | None = None, arms: list[str] | None = None, curves: bool = False) -> None:
    """Trains recipes to their end on class folders, in turn, seed by seed; adds each run to benchmarks/runs.jsonl.

    Args:
        data: The folder that holds ``train`` and ``test`` (of CIFAR-10).
        seeds: Of the runs; 0 to 4 by default.
        arms: Names of configurations, each with options of ``fit`` if need be; ``script`` for the bare script of
            airbench94, and ``script, memory kept`` for the same with the allocator's settings that main.py makes. By
            default, these three with airbench94.
        curves: Judge by the test images after every epoch, outside of the time that is told, and train on all others.
            A measurement only: no checkpoint is chosen by it.
    """
    with tempfile.TemporaryDirectory() as folder:
        for split in ("train", "test"):
            images = ClassFolders(root=data).load(split)  # type: ignore[arg-type]
            assert images is not None
            order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))  # not class by class
            pixels = images.pixels.permute(0, 2, 3, 1)[order].contiguous()
            as_files = {"images": pixels, "labels": images.labels[order]}
            torch.save(as_files, f"{folder}/{split}.pt")
        for seed in seeds if seeds is not None else range(5):
            for arm in arms or [_PLAIN, _WITH_MEMORY, "airbench94"]:
                found = _script(folder, seed, arm) if arm.startswith("script") else _fit(arm, data, seed, curves)
                run = {
                    "arm": f"{arm} (all 50,000 images)" if curves else arm,
                    "seed": seed,
                    **found,
                    "machine": machine(),
                    "commit": commit(),
                    "day": time.strftime("%Y-%m-%d"),
                }
                with _RUNS.open("a") as file:
                    file.write(json.dumps(run) + "\n")
                print(run, flush=True)
    show_runs()


def _script(folder: str, seed: int, arm: str) -> dict[str, Any]:
    start = time.perf_counter()
    measured = Arm(_SCRIPT, folder, seed, environment=_KEPT if arm == _WITH_MEMORY else {}).measure()
    whole = time.perf_counter() - start
    seconds = {"training": round(measured["training"], 1), "command": round(whole, 1)}
    return {"accuracy": measured["accuracy"], **seconds, "curve": measured["epochs"]}


def _fit(arm: str, data: str, seed: int, curves: bool) -> dict[str, Any]:
    name, *more = shlex.split(arm)
    with tempfile.TemporaryDirectory() as folder:
        clock = {"class_path": "benchmarks.clock.EpochClock", "init_args": {"file": f"{folder}/clock.json"}}
        options = ["--config", str(ROOT / "configs" / f"{name}.yaml"), "--data", "ClassFolders", "--data.root", data]
        options += ["--seed_everything", str(seed), "--trainer.logger.save_dir", folder]
        options += ["--trainer.callbacks+", json.dumps(clock), *more]
        if curves:
            options += ["--data.root", _with_test_as_val(data, Path(folder, "images"))]
            options += ["--trainer.check_val_every_n_epoch", "1"]
        start = time.perf_counter()
        run_python([str(ROOT / "main.py"), "fit", *options])
        run = Path(folder, name, "version_0")
        checkpoint = str(run / "checkpoints" / "last.ckpt")
        told = run_python([str(ROOT / "main.py"), "test", "--ckpt_path", checkpoint, "--trainer.callbacks", "[]"])
        whole = time.perf_counter() - start  # of both commands, as the script does both
        [found] = re.findall(r"accuracy\D*([\d.]+)", told)
        measured = json.loads(Path(folder, "clock.json").read_text())
        accuracies = [value for _, value in read_history(run)["val/accuracy"]] if curves else []
        ends = list(accumulate(measured["training"], initial=measured["preparation"]))[1:]
        curve = list(zip(ends, accuracies, strict=False))
    judging = 0 if curves else sum(measured["evaluation"])
    training = measured["preparation"] + sum(measured["training"]) + judging
    seconds = {"training": round(training, 1), "command": round(whole, 1)}
    return {"accuracy": float(found), **seconds, "curve": curve}


def _with_test_as_val(data: str, folder: Path) -> str:
    folder.mkdir()
    for name, target in (("train", "train"), ("val", "test"), ("test", "test")):
        (folder / name).symlink_to(Path(data, target).resolve())
    return str(folder)


def show_runs() -> None:
    """Prints all runs in benchmarks/runs.jsonl, for each recipe the mean and its standard error, and puts that and the
    curves of accuracy into RESULTS.md."""
    runs = [json.loads(line) for line in _RUNS.read_text().splitlines()]
    kinds = dict.fromkeys((run["arm"], run["commit"], run["machine"]) for run in runs)
    groups = {kind: [run for run in runs if (run["arm"], run["commit"], run["machine"]) == kind] for kind in kinds}
    rows, curves = [], []
    for (arm, measured, machine_name), group in groups.items():
        seconds = [f"{statistics.median(run[name] for run in group):.0f}" for name in ("training", "command")]
        seeds = ", ".join(str(run["seed"]) for run in group)
        scripts = groups.get((_WITH_MEMORY, measured, machine_name), [])
        against = [] if arm == _WITH_MEMORY else compared(group, scripts)
        accuracy_of = mean_and_error([run["accuracy"] for run in group])
        rows.append([arm, seeds, accuracy_of, *seconds, *(against or ["", ""]), f"{measured}, {machine_name}"])
        if group[-1]["curve"]:
            points = ", ".join(f"{accuracy:.4f} ({seconds:.0f} s)" for seconds, accuracy in group[-1]["curve"])
            views = "one view of each image" if arm.startswith("script") else "as configured"
            curves += ["", f"{arm}, seed {group[-1]['seed']}, after each epoch, judged by {views}: {points}"]
    header = ["recipe", "seeds", "test accuracy, mean ± standard error", "training, s", "whole command, s"]
    header += [f"training, time over `{_WITH_MEMORY}`'s", "accuracy minus its"]
    lines = [*table([*header, "commit, machine"], rows), *curves]
    print("\n".join(lines))
    put("runs", lines)


def compared(runs: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> list[str]:
    """Runs over others of the same seeds: the median of the times' ratios with its spread, and by how much the accuracy
    differs on average, with its standard error; nothing if they have no seed in common.

    >>> slow, fast = {"seed": 0, "training": 10, "accuracy": 0.9}, {"seed": 0, "training": 8, "accuracy": 0.91}
    >>> compared([fast], [slow])
    ['0.80 (0.80 to 0.80, n=1)', '0.0100']
    """
    of_seed = {run["seed"]: run for run in others}
    pairs = [(run, of_seed[run["seed"]]) for run in runs if run["seed"] in of_seed]
    if not pairs:
        return []
    times = [run["training"] / other["training"] for run, other in pairs]
    spread = f"{min(times):.2f} to {max(times):.2f}, n={len(times)}"
    gains = [run["accuracy"] - other["accuracy"] for run, other in pairs]
    return [f"{statistics.median(times):.2f} ({spread})", mean_and_error(gains)]


def mean_and_error(values: Sequence[float]) -> str:
    """The mean of values with its standard error.

    >>> mean_and_error([0.90, 0.91, 0.92])
    '0.9100 ± 0.0058'
    """
    if len(values) < 2:
        return f"{values[0]:.4f}"
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values) / math.sqrt(len(values)):.4f}"
