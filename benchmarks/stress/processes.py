"""Validation in several processes, which must write the same as one, even if they cannot share the images evenly."""

import math
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.variants import ROOT, run_python
from tests.support.stress.comparison import logged_events
from tests.support.stress.outcome import Outcome

_SIZES = (101, 3, 7, 143, 199, 211, 250, 301, 401, 503)
_EXACT = ["--trainer.precision", "64-true", "--trainer.accelerator", "cpu"]


def processes(sizes: int = len(_SIZES), max_processes: int = 3) -> Outcome:
    """Validate in one process and in several.

    Args:
        sizes: How many of the ten numbers of images to try.
        max_processes: Maximum number of processes.
    """
    failures, tried = [], 0
    with tempfile.TemporaryDirectory() as folder:
        data = ["--data", "benchmarks.random_images.RandomImages"]
        fit = ["--config", str(ROOT / "configs" / "quickstart.yaml"), *data, "--model.net", "TinyNet", *_EXACT]
        fit += ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.logger.save_dir", folder]
        run_python([str(ROOT / "main.py"), "fit", *fit, "--data.count", "1000", "--data.augment", "[]"])
        run = Path(folder, "quickstart", "version_0")
        for size in _SIZES[:sizes]:
            alone = _validate(run, size, 1)
            for count in range(2, max_processes + 1):
                tried += 1
                together = _validate(run, size, count)
                failures += [f"{size} images, {count} processes: {name}" for name in _differences(alone, together)]
    return Outcome("metrics, pictures and tables of 2 and 3 processes, equal to those of one", tried, failures)


def _validate(run: Path, size: int, count: int) -> dict[str, Any]:
    """Run ``validate``, and return what it wrote, by name."""
    for file in [*run.rglob("events*"), *run.glob("*.csv")]:
        file.unlink()
    options = ["--ckpt_path", str(run / "checkpoints" / "last.ckpt"), *_EXACT]
    options += ["--data.for_validation", str(size), "--data.batch_size", "50", "--trainer.devices", str(count)]
    strategy = ["--trainer.strategy", "ddp" if count > 1 else "auto"]
    run_python([str(ROOT / "main.py"), "validate", *options, *strategy])
    logged: dict[str, Any] = {
        tag: value for events in logged_events(run).values() for tag, value in events.items() if "hparams" not in tag
    }
    return logged | {file.name: file.read_text() for file in run.glob("*.csv")}


def _differences(alone: dict[str, Any], together: dict[str, Any]) -> list[str]:
    names = sorted(alone.keys() | together.keys())
    return [name for name in names if not _equal(alone.get(name), together.get(name))]


def _equal(first: Any, second: Any) -> bool:
    """Return whether two values are equal; numbers may differ by rounding, as they are summed in another order."""
    if first == second:
        return True
    if not isinstance(first, list) or not isinstance(second, list) or len(first) != len(second):
        return False
    pairs = [(event[1], other[1]) for event, other in zip(first, second, strict=True)]
    return all(
        isinstance(value, float) and isinstance(other, float) and math.isclose(value, other, rel_tol=1e-6, abs_tol=1e-7)
        for value, other in pairs
    )
