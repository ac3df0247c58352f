"""The program under test: its location, options for short runs, and the outcome of a run."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Options for fast runs
QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
TINY = ["--model.net", "TinyNet", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", *QUIET]

NO_CALLBACKS = ["--trainer.callbacks", "[]"]  # saves the seconds of the figures
EXACT = ["--trainer.precision", "32-true"]  # the same numbers on all CPUs that use the same kernels


@dataclass
class Outcome:
    """Exit status and output of a run of the program."""

    status: int
    out: str
    err: str
