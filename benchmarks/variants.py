"""Commands measured side by side: A B A B, each run in its own process."""

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
Measurement = dict[str, Any]


class Variant:
    """A command that prints its measurement as JSON in its last line.

    Args:
        arguments: Arguments of ``python``.
        environment: Environment variables to set.
    """

    def __init__(self, *arguments: object, environment: Mapping[str, str] | None = None) -> None:
        self._arguments = [str(argument) for argument in arguments]
        self._environment = environment or {}

    def measure(self) -> Measurement:
        """Run the command and return its measurement.

        Raises:
            RuntimeError: If the command fails; the message ends with its last output.
        """
        return json.loads(run_python(self._arguments, self._environment).splitlines()[-1])


class FitVariant(Variant):
    """``main.py fit`` with an additional ``EpochClock``.

    Args:
        arguments: Arguments of ``fit``.
        environment: Environment variables to set.
    """

    def __init__(self, *arguments: object, environment: Mapping[str, str] | None = None) -> None:
        super().__init__(ROOT / "main.py", "fit", *arguments, environment=environment)

    def measure(self) -> Measurement:
        """Train in a temporary folder and return what ``EpochClock`` wrote."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "clock.json")
            clock = {"class_path": "benchmarks.clock.EpochClock", "init_args": {"file": str(file)}}
            runs = ["--trainer.logger.save_dir", f"{folder}/runs", "--trainer.callbacks+", json.dumps(clock)]
            run_python([*self._arguments, *runs], self._environment)
            return json.loads(file.read_text())


def run_python(arguments: Sequence[str], variables: Mapping[str, str] | None = None, *, errors: bool = False) -> str:
    """Run ``python`` and return its standard output, or its standard error if ``errors`` is set.

    Raises:
        RuntimeError: If it fails.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), VARIABLE: "benchmarks", **(variables or {})}
    command = [sys.executable, *arguments]
    completed = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if completed.returncode != 0:
        raise RuntimeError(f"python {' '.join(arguments)} failed:\n{completed.stderr[-2000:]}")
    return completed.stderr if errors else completed.stdout


def alternate(variants: Mapping[str, Variant], rounds: int) -> dict[str, list[Measurement]]:
    """Measure every variant once per round, so that slow phases of the machine affect all alike."""
    measured: dict[str, list[Measurement]] = {name: [] for name in variants}
    for number in range(rounds):
        for name, variant in variants.items():
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
            measured[name].append(variant.measure())
    return measured
