"""A run of very many validations: what is not given back adds up."""

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

_MOST_GROWTH = 0.02  # of memory, from the first tenth of the epochs to the last


class Watch(Callback):
    """Writes the process's memory, open files and threads after each validation to a file of JSON.

    Args:
        file: Where to.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self._seen: list[dict[str, int]] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        """After the validation and the checkpoints of the epoch before."""
        handles = len(list(Path("/proc/self/fd").iterdir()))
        threads = len(list(Path("/proc/self/task").iterdir()))
        own = memory()["own_memory"]
        self._seen.append({"memory": own, "handles": handles, "threads": threads, "python": threading.active_count()})

    def on_fit_end(self, *_: Any) -> None:
        """Writes it all."""
        self.file.write_text(json.dumps(self._seen))


def soak(epochs: int) -> Outcome:
    """Trains one step an epoch, and validates with all callbacks after each."""
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/seen.json"
        watch = json.dumps({"class_path": "benchmarks.stress.soak.Watch", "init_args": {"file": file}})
        options = ["--config", str(ROOT / "configs" / "quickstart.yaml"), "--model.net", "TinyNet"]
        options += ["--trainer.accelerator", "cpu", "--trainer.max_epochs", str(epochs + 1)]
        options += ["--trainer.limit_train_batches", "1", "--trainer.log_every_n_steps", "1"]
        options += ["--trainer.enable_progress_bar", "false", "--trainer.logger.save_dir", folder]
        run_python([str(ROOT / "main.py"), "fit", *options, "--trainer.callbacks+", watch])
        seen = json.loads(Path(file).read_text())[1:]
    tenth = max(1, len(seen) // 10)
    after = seen[tenth : 2 * tenth] or seen  # the first tenth warms up
    failures = []
    growth = _median(seen[-tenth:], "memory") / _median(after, "memory") - 1
    if growth > _MOST_GROWTH:
        failures.append(f"memory grew by {growth:.1%}")
    changes = {name: seen[-1][name] - after[0][name] for name in ("handles", "threads", "python")}
    failures += [f"{change:+} {name}" for name, change in changes.items() if change > 0]
    figures = (
        f"memory {growth:+.2%} ({_median(seen[-tenth:], 'memory') / 2**20:.0f} MB), open files {seen[-1]['handles']}"
    )
    return Outcome("validations in one run, with all callbacks", len(seen), failures, figures)


def _median(seen: list[dict[str, int]], name: str) -> float:
    return statistics.median(one[name] for one in seen)
