"""A run of very many validations, in which leaks of memory, files or threads add up."""

import json
import statistics
import tempfile
import threading
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from benchmarks.clock import memory
from benchmarks.variants import ROOT, run_python
from tests.support.stress.outcome import Outcome

_MAX_GROWTH = 0.02  # of memory, from the second tenth of the epochs to the last


class ResourceMonitor(Callback):
    """Write the process's memory, open files and threads after each validation to a JSON file.

    Args:
        file: Output file.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self._records: list[dict[str, int]] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        """Record the resources, after the validation and the checkpoints of the previous epoch."""
        handles = len(list(Path("/proc/self/fd").iterdir()))
        threads = len(list(Path("/proc/self/task").iterdir()))
        own, python = memory()["own_memory"], threading.active_count()
        self._records.append({"memory": own, "handles": handles, "threads": threads, "python": python})

    def on_fit_end(self, *_: Any) -> None:
        """Write all records."""
        self.file.write_text(json.dumps(self._records))


def soak(epochs: int) -> Outcome:
    """Train one step per epoch, and validate with all callbacks after each."""
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/records.json"
        monitor = json.dumps({"class_path": "benchmarks.stress.soak.ResourceMonitor", "init_args": {"file": file}})
        options = ["--config", str(ROOT / "configs" / "quickstart.yaml"), "--model.net", "TinyNet"]
        options += ["--trainer.accelerator", "cpu", "--trainer.max_epochs", str(epochs + 1)]
        options += ["--trainer.limit_train_batches", "1", "--trainer.log_every_n_steps", "1"]
        options += ["--trainer.enable_progress_bar", "false", "--trainer.logger.save_dir", folder]
        run_python([str(ROOT / "main.py"), "fit", *options, "--trainer.callbacks+", monitor])
        records = json.loads(Path(file).read_text())[1:]
    tenth = max(1, len(records) // 10)
    baseline = records[tenth : 2 * tenth] or records  # the first tenth warms up
    failures = []
    growth = _median(records[-tenth:], "memory") / _median(baseline, "memory") - 1
    if growth > _MAX_GROWTH:
        failures.append(f"memory grew by {growth:.1%}")
    changes = {name: records[-1][name] - baseline[0][name] for name in ("handles", "threads", "python")}
    failures += [f"{change:+} {name}" for name, change in changes.items() if change > 0]
    megabytes = _median(records[-tenth:], "memory") / 2**20
    figures = f"memory {growth:+.2%} ({megabytes:.0f} MB), open files {records[-1]['handles']}"
    return Outcome("validations in one run, with all callbacks", len(records), failures, figures)


def _median(records: list[dict[str, int]], name: str) -> float:
    return statistics.median(record[name] for record in records)
