"""Stress tests: killed runs, damaged checkpoints, faulty configurations and malformed requests."""

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.results import FOLDER, commit, machine
from benchmarks.stress.damage import damaged_checkpoints
from benchmarks.stress.processes import processes
from benchmarks.stress.soak import soak
from benchmarks.variants import ROOT, run_python
from callbacks.rendering.markdown import table
from tests.support.stress.configurations import configurations
from tests.support.stress.kills import kills
from tests.support.stress.outcome import HEADER, Outcome
from tests.support.stress.page import Server
from tests.support.stress.uploads import truncations, uploads
from tests.support.stress.visitors import (
    decompression_bombs,
    every_route,
    flood,
    foreign_files,
    in_turn,
    malformed_calls,
    malformed_uploads,
    odd_forms,
    users,
)


def reliability(quick: bool = False, only: list[str] | None = None, seed: int = 0) -> None:
    """Run stress tests, print their outcomes, and write them to benchmarks/RELIABILITY.md.

    Args:
        quick: Run a few cases of each, within minutes. Prints without saving.
        only: Names of the stress tests: training, configurations, processes, soak or visitors; all by default.
        seed: Seed of everything random.
    """
    stress_tests: dict[str, Callable[[bool, int], Iterable[Outcome]]] = {
        "training": _training,
        "configurations": lambda quick, seed: [configurations(50 if quick else 2000, seed)],
        "processes": lambda quick, seed: [processes(1, 2) if quick else processes()],
        "soak": lambda quick, seed: [soak(30 if quick else 1000)],
        "visitors": _visitors,
    }
    if unknown := sorted(set(only or []) - set(stress_tests)):
        raise SystemExit(f"error: unknown stress test {unknown[0]!r}; choose from {', '.join(stress_tests)}")
    for name, stress_test in stress_tests.items():
        if only is None or name in only:
            for outcome in stress_test(quick, seed):
                print("\n".join([" | ".join(outcome.row()), *outcome.report()]), flush=True)
                if not quick:
                    measured = f"seed {seed}, commit {commit()}, {machine()}, {time.strftime('%Y-%m-%d')}"
                    _save(outcome.name, {"kind": name, "row": [*outcome.row(), measured], "failures": outcome.report()})


def _training(quick: bool, seed: int) -> Iterator[Outcome]:
    yield from kills(4 if quick else 100, seed)
    yield damaged_checkpoints(50 if quick else 1000, seed)


def _visitors(quick: bool, seed: int) -> Iterator[Outcome]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = export_space(Path(temporary))
        with Server(folder, Path(temporary)) as server:
            for stress_test in (
                malformed_uploads(server, uploads(60 if quick else 4000, seed)),
                *([] if quick else [malformed_uploads(server, truncations(), "images truncated at every byte")]),
                odd_forms(server),
                malformed_calls(server, 60 if quick else 5000, seed),
                decompression_bombs(server),
                every_route(server, seed),
                foreign_files(server, folder),
                flood(server, 50 if quick else 500),
                users(server, 10 if quick else 50, 5 if quick else 120),
            ):
                yield from in_turn(stress_test)
        tracebacks = server.log.read_text().count("Traceback")
    yield Outcome("tracebacks in the server log", 1, ["some"] * bool(tracebacks), str(tracebacks))


def export_space(folder: Path) -> Path:
    """Train briefly, export a Space into a subfolder, and return the subfolder."""
    with contextlib.chdir(folder):
        config = ["--config", str(ROOT / "configs" / "quickstart.yaml"), "--model.net", "TinyNet"]
        run_python([str(ROOT / "main.py"), "fit", *config, "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"])
        run_python([str(ROOT / "main.py"), "export", "--ckpt_path", "last", "--output", "my_space"])
    return folder / "my_space"


def _save(name: str, outcome: dict[str, Any]) -> None:
    """Save the outcome of a stress test, and rewrite RELIABILITY.md."""
    file = FOLDER / "reliability.json"
    stored = json.loads(file.read_text()) if file.is_file() else {}
    stored[name] = outcome
    file.write_text(json.dumps(stored, indent=1) + "\n")
    lines = ["# Stress tests", "", "Written by `python -m benchmarks reliability`."]
    for kind in dict.fromkeys(entry["kind"] for entry in stored.values()):
        entries = [entry for entry in stored.values() if entry["kind"] == kind]
        failures = [line for entry in entries for line in entry["failures"]]
        rows = table([*HEADER, "measured"], [entry["row"] for entry in entries], raw=True)
        lines += ["", f"## {kind.capitalize()}", "", rows, ""]
        lines += ["Failures:", "", *failures] if failures else ["No failures."]
    (FOLDER / "RELIABILITY.md").write_text("\n".join(lines) + "\n")
