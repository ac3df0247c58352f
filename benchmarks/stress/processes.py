"""Several processes that judge images whose number does not divide among them: what they write equals one's."""

import math
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.variants import ROOT, run_python
from tests.support.stress.comparison import written
from tests.support.stress.outcome import Outcome

_SIZES = (101, 3, 7, 143, 199, 211, 250, 301, 401, 503)
_EXACT = ["--trainer.precision", "64-true", "--trainer.accelerator", "cpu"]


def processes(sizes: int = len(_SIZES), most: int = 3) -> Outcome:
    """Validates with one process and with more.

    Args:
        sizes: How many numbers of images, of ten.
        most: The most processes.
    """
    failures, tried = [], 0
    with tempfile.TemporaryDirectory() as folder:
        data = ["--data", "benchmarks.random_images.RandomImages"]
        fit = ["--config", str(ROOT / "configs" / "quickstart.yaml"), *data, "--model.net", "TinyNet", *_EXACT]
        fit += ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.logger.save_dir", folder]
        run_python([str(ROOT / "main.py"), "fit", *fit, "--data.count", "1000", "--data.augment", "[]"])
        run = Path(folder, "quickstart", "version_0")
        for size in _SIZES[:sizes]:
            alone = _judged(run, size, 1)
            for count in range(2, most + 1):
                tried += 1
                together = _judged(run, size, count)
                failures += [f"{size} images, {count} processes: {name}" for name in _unequal(alone, together)]
    return Outcome("metrics, pictures and tables of 2 and 3 processes, against one's", tried, failures)


def _judged(run: Path, size: int, count: int) -> dict[str, Any]:
    """What ``validate`` wrote, by name."""
    for file in [*run.rglob("events*"), *run.glob("*.csv")]:
        file.unlink()
    options = ["--ckpt_path", str(run / "checkpoints" / "last.ckpt"), *_EXACT]
    options += ["--data.for_validation", str(size), "--data.batch_size", "50", "--trainer.devices", str(count)]
    strategy = ["--trainer.strategy", "ddp" if count > 1 else "auto"]
    run_python([str(ROOT / "main.py"), "validate", *options, *strategy])
    found: dict[str, Any] = {
        tag: value for events in written(run).values() for tag, value in events.items() if "hparams" not in tag
    }
    return found | {file.name: file.read_text() for file in run.glob("*.csv")}


def _unequal(alone: dict[str, Any], together: dict[str, Any]) -> list[str]:
    names = sorted(alone.keys() | together.keys())
    return [name for name in names if not _equal(alone.get(name), together.get(name))]


def _equal(first: Any, second: Any) -> bool:
    """Equal; numbers but for the order in which they were added."""
    if first == second:
        return True
    if not isinstance(first, list) or not isinstance(second, list) or len(first) != len(second):
        return False
    pairs = [(one[1], other[1]) for one, other in zip(first, second, strict=True)]
    return all(
        isinstance(one, float) and isinstance(other, float) and math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-7)
        for one, other in pairs
    )
