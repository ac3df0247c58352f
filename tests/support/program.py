"""The program under test: where it is, settings for short runs, and how a run ended."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Fast settings for a run of which only the outcome matters
QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
TINY = ["--model.net", "TinyNet", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", *QUIET]

EXACT = ["--trainer.precision", "32-true"]  # the same numbers on every CPU with the same kernels


@dataclass
class Outcome:
    """How a run of the program ended."""

    status: int
    out: str
    err: str
