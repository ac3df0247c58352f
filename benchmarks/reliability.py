"""How much harm the program withstands: kills, damage, faults, and strangers."""

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
    """Does the harm, prints what came of it, and writes it to benchmarks/RELIABILITY.md.

    Args:
        quick: A few of each, in some minutes; printed, and not written.
        only: training, configurations, processes, soak or visitors; all by default.
        seed: Of all that is random.
    """
    harms: dict[str, Callable[[bool, int], Iterable[Outcome]]] = {
        "training": _training,
        "configurations": lambda quick, seed: [configurations(50 if quick else 2000, seed)],
        "processes": lambda quick, seed: [processes(1, 2) if quick else processes()],
        "soak": lambda quick, seed: [soak(30 if quick else 1000)],
        "visitors": _visitors,
    }
    if unknown := sorted(set(only or []) - set(harms)):
        raise SystemExit(f"error: there is no harm {unknown[0]!r}; there are {', '.join(harms)}")
    for name, harm in harms.items():
        if only is None or name in only:
            for one in harm(quick, seed):
                print("\n".join([" | ".join(one.row()), *one.report()]), flush=True)
                if not quick:
                    where = f"seed {seed}, commit {commit()}, {machine()}, {time.strftime('%Y-%m-%d')}"
                    _keep(one.what, {"kind": name, "row": [*one.row(), where], "failures": one.report()})


def _training(quick: bool, seed: int) -> Iterator[Outcome]:
    yield from kills(4 if quick else 100, seed)
    yield damaged_checkpoints(50 if quick else 1000, seed)


def _visitors(quick: bool, seed: int) -> Iterator[Outcome]:
    with tempfile.TemporaryDirectory() as place:
        folder = export(Path(place))
        with Server(folder, Path(place)) as server:
            for harm in (
                malformed_uploads(server, uploads(60 if quick else 4000, seed)),
                *([] if quick else [malformed_uploads(server, truncations(), "images cut at every byte")]),
                odd_forms(server),
                malformed_calls(server, 60 if quick else 5000, seed),
                decompression_bombs(server),
                every_route(server, seed),
                foreign_files(server, folder),
                flood(server, 50 if quick else 500),
                users(server, 10 if quick else 50, 5 if quick else 120),
            ):
                yield from in_turn(harm)
        tracebacks = server.log.read_text().count("Traceback")
    yield Outcome("tracebacks in the server's own log", 1, ["some"] * bool(tracebacks), str(tracebacks))


def export(place: Path) -> Path:
    """A Space of a short run, in a folder below."""
    with contextlib.chdir(place):
        config = ["--config", str(ROOT / "configs" / "quickstart.yaml"), "--model.net", "TinyNet"]
        run_python([str(ROOT / "main.py"), "fit", *config, "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"])
        run_python([str(ROOT / "main.py"), "export", "--ckpt_path", "last", "--output", "my_space"])
    return place / "my_space"


def _keep(name: str, found: dict[str, Any]) -> None:
    """Store the outcome of a stress test, and rewrite RELIABILITY.md."""
    file = FOLDER / "reliability.json"
    kept = json.loads(file.read_text()) if file.is_file() else {}
    kept[name] = found
    file.write_text(json.dumps(kept, indent=1) + "\n")
    lines = ["# Stress tests", "", "Written by `python -m benchmarks reliability`."]
    for kind in dict.fromkeys(one["kind"] for one in kept.values()):
        of_kind = [one for one in kept.values() if one["kind"] == kind]
        failures = [line for one in of_kind for line in one["failures"]]
        rows = table([*HEADER, "measured"], [one["row"] for one in of_kind], raw=True)
        lines += ["", f"## {kind.capitalize()}", "", rows, ""]
        lines += ["Failures:", "", *failures] if failures else ["No failures."]
    (FOLDER / "RELIABILITY.md").write_text("\n".join(lines) + "\n")
