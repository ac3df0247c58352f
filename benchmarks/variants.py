"""Commands that are measured side by side: A B A B, each in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cifar_lit.import_allowlist import VARIABLE

ROOT = Path(__file__).parents[1]
Measured = dict[str, Any]


class Variant:
    """A command that prints what it measured as JSON in its last line.

    Args:
        arguments: What follows ``python``.
        environment: Variables to set for it.
    """

    def __init__(self, *arguments: object, environment: Mapping[str, str] | None = None) -> None:
        self._arguments = [str(argument) for argument in arguments]
        self._environment = environment or {}

    def measure(self) -> Measured:
        """Runs the command.

        Raises:
            RuntimeError: if it fails; with what it wrote last.
        """
        return json.loads(run_python(self._arguments, self._environment).splitlines()[-1])


class FitVariant(Variant):
    """The real ``main.py fit``, with a clock among its callbacks.

    Args:
        arguments: What follows ``fit``.
        environment: Variables to set for it.
    """

    def __init__(self, *arguments: object, environment: Mapping[str, str] | None = None) -> None:
        super().__init__(ROOT / "main.py", "fit", *arguments, environment=environment)

    def measure(self) -> Measured:
        """Trains, in a folder that is then thrown away; gives what benchmarks.clock wrote."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "clock.json")
            clock = {"class_path": "benchmarks.clock.EpochClock", "init_args": {"file": str(file)}}
            runs = ["--trainer.logger.save_dir", f"{folder}/runs", "--trainer.callbacks+", json.dumps(clock)]
            run_python([*self._arguments, *runs], self._environment)
            return json.loads(file.read_text())


def run_python(arguments: Sequence[str], variables: Mapping[str, str] | None = None, *, errors: bool = False) -> str:
    """What ``python`` with these arguments writes to its standard output, or to that for errors.

    Raises:
        RuntimeError: if it fails.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), VARIABLE: "benchmarks", **(variables or {})}
    ended = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)
    if ended.returncode != 0:
        raise RuntimeError(f"python {' '.join(arguments)} failed:\n{ended.stderr[-2000:]}")
    return ended.stderr if errors else ended.stdout


def alternate(arms: Mapping[str, Variant], rounds: int) -> dict[str, list[Measured]]:
    """What each arm measured, all of them once in every round, so that a slow moment hits all alike."""
    found: dict[str, list[Measured]] = {name: [] for name in arms}
    for number in range(rounds):
        for name, arm in arms.items():
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
            found[name].append(arm.measure())
    return found
