"""Training progress: one line per epoch, and in a terminal a bar below."""

import math
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich import get_console
from torch import Tensor


class OneLineProgressBar(RichProgressBar):
    """Show training progress with the latest training loss and validation accuracy.

    After each epoch, print one line (loss / accuracy):
    ``epoch 3/12  train .057 / 97.8 %  val .487 / 86.8 %  820 img/s  left 0:21``. Without a terminal (nohup, SLURM,
    CI), there is no bar.

    Args:
        refresh_rate: Number of batches between updates of the bar; updating at every batch slows down small networks.
            0 to switch it off.
        leave: Whether to keep the bar of each finished epoch on the screen.
    """

    def __init__(self, refresh_rate: int = 10, leave: bool = False) -> None:
        super().__init__(refresh_rate, leave)
        self._leaves_bars = leave
        self._in_terminal = sys.stdout.isatty()  # rich replaces sys.stdout while it shows a bar
        self._run_start = self._epoch_start = 0.0
        self._first_step = self._images = 0
        self._validation_seconds: float | None = None  # in this epoch; None without a validation
        self._validated = False  # in this run
        self._pending: dict[str, Any] | None = None  # the finished epoch's line, until its metrics are logged

    @property
    def is_enabled(self) -> bool:
        """Whether to show the bar."""
        return super().is_enabled and self._in_terminal

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        """Return Lightning's columns without the rate, and in a narrow terminal without the bar, to fit on one line."""
        description, bar, *numbers, _ = super().configure_columns(trainer)
        return [description, *[bar] * (get_console().width >= 80), *numbers]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a run that resumes within an epoch skips ``on_train_epoch_start``."""
        super().on_train_start(trainer, pl_module)
        if self.progress is not None:
            self.progress.live.transient = not self._leaves_bars  # the last bar, below the line of its epoch
        self._first_step, self._pending, self._validated = trainer.global_step, None, False
        self._run_start = time.monotonic()
        self._start_epoch()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line of the previous epoch."""
        super().on_train_epoch_start(trainer, pl_module)
        self._print_pending(trainer)
        self._start_epoch()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the bar every ``refresh_rate`` batches; Lightning's collects the metrics after each one."""
        self._images += len(batch.labels)
        done = batch_idx + 1
        if self.is_enabled and (done % self.refresh_rate == 0 or done == trainer.num_training_batches):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start timing the validation."""
        super().on_validation_start(trainer, pl_module)
        self._validation_start = time.monotonic()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Update the bar; after the last batch, say that the other callbacks are drawing."""
        super().on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        is_last = trainer.state.fn == "fit" and batch_idx + 1 == trainer.num_val_batches[dataloader_idx]
        if is_last and self.progress is not None and self.val_progress_bar_id is not None:
            self.progress.update(self.val_progress_bar_id, description="Drawing")
            self.refresh(hard=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add up the time, to keep it out of the training rate."""
        super().on_validation_end(trainer, pl_module)
        if not trainer.sanity_checking:
            self._validated = True
            self._validation_seconds = (self._validation_seconds or 0) + time.monotonic() - self._validation_start

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the epoch; the model logs its training metrics only after this hook."""
        super().on_train_epoch_end(trainer, pl_module)
        now = time.monotonic()
        steps = trainer.global_step - self._first_step
        steps_left = trainer.estimated_stepping_batches - trainer.global_step
        seconds = now - self._epoch_start - (self._validation_seconds or 0)
        self._pending = {
            "epoch": trainer.current_epoch + 1,
            "max_epochs": trainer.max_epochs,
            "validated": self._validation_seconds is not None,
            "images_per_second": self._images * trainer.world_size / max(seconds, 1e-9),
            "seconds_left": (now - self._run_start) * steps_left / max(steps, 1),
        }

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line of the last epoch."""
        super().on_train_end(trainer, pl_module)
        self._print_pending(trainer)

    def _start_epoch(self) -> None:
        self._epoch_start, self._images, self._validation_seconds = time.monotonic(), 0, None

    def _print_pending(self, trainer: Trainer) -> None:
        metrics = trainer.callback_metrics  # in all processes, since reading them may synchronize
        if self._pending is not None and super().is_enabled:
            print(epoch_line(metrics, **self._pending), flush=True)
        self._pending = None

    def _get_train_description(self, current_epoch: int) -> str:
        """Count epochs from 1, as the pictures and the table of checkpoints do."""
        return (
            super()
            ._get_train_description(current_epoch + 1)
            .replace(f"/{(self.trainer.max_epochs or 0) - 1}", f"/{self.trainer.max_epochs}")
        )

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return the loss and the accuracy under short names."""
        metrics = super().get_metrics(trainer, pl_module)
        short: dict[str, Any] = {}
        if "train/loss_step" in metrics:
            short["loss"] = metrics["train/loss_step"]
        if "val/accuracy" in metrics and self._validated:  # not that of the sanity check
            short["val"] = f"{metrics['val/accuracy']:.1%}"
        return short


def epoch_line(
    metrics: Mapping[str, Tensor | float],
    *,
    epoch: int,
    max_epochs: int | None,
    validated: bool,
    images_per_second: float,
    seconds_left: float,
) -> str:
    """Return one line on a finished epoch.

    Args:
        metrics: Loss and accuracy (0 to 1) as ``train/loss``, ``train/accuracy``, ``val/loss`` and ``val/accuracy``;
            missing ones are left out.
        epoch: Number of the epoch, from 1.
        max_epochs: Number of epochs of the run; None or -1 if unlimited.
        validated: Whether a validation ran in this epoch.
        images_per_second: Training images per second, over all processes.
        seconds_left: Estimated time to the end of the run; infinite if unlimited.

    >>> metrics = {"train/loss": 0.0571, "train/accuracy": 0.978, "val/loss": 1.487, "val/accuracy": 0.868}
    >>> epoch_line(metrics, epoch=3, max_epochs=12, validated=True, images_per_second=820.3, seconds_left=21)
    'epoch 3/12  train .057 / 97.8 %  val 1.487 / 86.8 %  820 img/s  left 0:21'
    """
    parts = [f"epoch {epoch}/{max_epochs}" if max_epochs and max_epochs > 0 else f"epoch {epoch}"]
    for split in ("train", "val") if validated else ("train",):
        if {f"{split}/loss", f"{split}/accuracy"} <= metrics.keys():
            loss = f"{float(metrics[f'{split}/loss']):.3f}".removeprefix("0")
            parts.append(f"{split} {loss} / {100 * float(metrics[f'{split}/accuracy']):.1f} %")
    parts.append(f"{images_per_second:.0f} img/s")
    if math.isfinite(seconds_left):
        left = str(timedelta(seconds=round(max(seconds_left, 0))))
        parts.append(f"left {left.removeprefix('0:').removeprefix('0')}")
    return "  ".join(parts)
