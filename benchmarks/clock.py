"""A callback that times each epoch of ``fit``."""

import json
import resource
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class EpochClock(Callback):
    """Write the seconds of each epoch to a JSON file when training ends.

    Args:
        file: Output file. ``preparation`` is the seconds from loaded images to the first epoch (whitening, sanity
            check); ``training`` and ``evaluation`` (everything after the last batch: validation, pictures, checkpoints)
            are lists of seconds per epoch; ``images`` is the number of training images per epoch, over all processes;
            ``peak_memory`` is that of the process in bytes, and ``own_memory`` the part of it that is not mapped from
            files, the maximum over the ends of epochs.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self._fit_start = 0.0
        self._epoch_starts: list[float] = []
        self._training_ends: list[float] = []
        self._images: list[int] = []
        self._own_memory = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the time, after the images are loaded and before the network is used."""
        self._fit_start = _now()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the time."""
        self._epoch_starts.append(_now())
        self._images.append(0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the images, and record the time after the last batch."""
        self._images[-1] += len(batch.labels)
        if batch_idx + 1 == trainer.num_training_batches:
            self._training_ends.append(_now())
            self._own_memory = max(self._own_memory, memory()["own_memory"])

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the measurements; the last checkpoint is already saved."""
        if not self._epoch_starts:
            return  # resumed after the last epoch
        epoch_ends = [*self._epoch_starts[1:], _now()]
        measured: dict[str, Any] = {
            "preparation": self._epoch_starts[0] - self._fit_start,
            "training": [end - start for start, end in zip(self._epoch_starts, self._training_ends, strict=True)],
            "evaluation": [end - start for start, end in zip(self._training_ends, epoch_ends, strict=True)],
            "images": [count * trainer.world_size for count in self._images],
            **memory(),
        }
        measured["own_memory"] = max(self._own_memory, measured["own_memory"])
        if trainer.is_global_zero:
            self.file.write_text(json.dumps(measured))


def memory() -> dict[str, int]:
    """Return this process's ``peak_memory`` so far and its current ``own_memory``, in bytes."""
    rss_anon = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return {
        "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "own_memory": int(rss_anon[0].split()[1]) * 1024,
    }


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
