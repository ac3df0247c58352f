"""A callback that measures the time of a run of the real program, epoch by epoch."""

import json
import resource
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class EpochClock(Callback):
    """Writes the seconds of each epoch to a file of JSON when training ends.

    Args:
        file: Where to write: ``preparation``, the seconds before the first epoch once the images are there (whitening,
            the sanity check); ``training`` and ``evaluation`` (all that follows the last batch: validation, pictures,
            checkpoints) in seconds, a number an epoch; ``images`` trained on in each, by all processes;
            ``peak_memory`` of the process in bytes, and ``own_memory``, the most of it that is not mapped from files,
            as seen at the ends of epochs.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self._fit_start = 0.0
        self._starts: list[float] = []
        self._trained: list[float] = []
        self._images: list[int] = []
        self._own_memory = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes the time: after the images were read, and before the network sees any."""
        self._fit_start = _now()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes the time."""
        self._starts.append(_now())
        self._images.append(0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts images; notes the time after the last batch."""
        self._images[-1] += len(batch.labels)
        if batch_idx + 1 == trainer.num_training_batches:
            self._trained.append(_now())
            self._own_memory = max(self._own_memory, memory()["own_memory"])

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes what was noted; by now the last checkpoint is written too."""
        ends = [*self._starts[1:], _now()]
        found: dict[str, Any] = {
            "preparation": self._starts[0] - self._fit_start,
            "training": [after - before for before, after in zip(self._starts, self._trained, strict=True)],
            "evaluation": [after - before for before, after in zip(self._trained, ends, strict=True)],
            "images": [count * trainer.world_size for count in self._images],
            **memory(),
        }
        found["own_memory"] = max(self._own_memory, found["own_memory"])
        if trainer.is_global_zero:
            self.file.write_text(json.dumps(found))


def memory() -> dict[str, int]:
    """``peak_memory`` and ``own_memory`` of this process so far, in bytes."""
    own = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return {
        "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "own_memory": int(own[0].split()[1]) * 1024,
    }


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
