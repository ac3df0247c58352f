"""The checkpoint that a run goes on from."""

import signal
import time
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.fabric.utilities.apply_func import apply_to_collection
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
from torch import Tensor

from cifar_lit.checkpoints import LAST
from cifar_lit.errors import InputError, Stopped
from cifar_lit.resuming.signals import StopSignals
from cifar_lit.trainer import Trainer

_DUE, _STOP = 1, 2  # what processes agree on


class LastCheckpoint(Checkpoint):
    """Writes ``checkpoints/last.ckpt`` in the run's folder, from which the run goes on exactly, to the bit.

    It is written when training begins, at the end of every epoch, as often in between as you like, and when the run
    gets SIGTERM or Ctrl-C: then at the end of the step, and training ends. During validation no step ends; what is
    written then is how things stood a step before it, of which a copy is kept in memory.

    Args:
        every_n_steps: Also after every so many steps.
        every_minutes: Also when so many minutes have passed since the last time.
    """

    def __init__(self, every_n_steps: int | None = None, every_minutes: float | None = None) -> None:
        if (every_n_steps is not None and every_n_steps < 1) or (every_minutes is not None and every_minutes <= 0):
            raise InputError(
                "last_checkpoint: every_n_steps must be at least 1 and every_minutes above 0,"
                f" got {every_n_steps} and {every_minutes}"
            )
        self.every_n_steps, self.every_minutes = every_n_steps, every_minutes
        self.file: Path | None = None  # that was written
        self._signals = StopSignals()
        self._saved_step, self._saved_time = 0, 0.0
        self._before_validation: dict[str, Any] | None = None
        self._plateaus: dict[str, Tensor] = {}  # what schedules that wait for a plateau are still to be told

    def state_dict(self) -> dict[str, Any]:
        """What Lightning does after an epoch's end, and a checkpoint of then has not seen."""
        return {"plateaus": self._plateaus}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes that over."""
        self._plateaus = state_dict["plateaus"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # type: ignore[override]
        """Makes good what the checkpoint has not seen; begins to listen to signals; saves where a run begins."""
        if trainer.fast_dev_run:
            return
        for config in trainer.lr_scheduler_configs:
            if config.reduce_on_plateau and config.monitor in self._plateaus:
                pl_module.lr_scheduler_step(config.scheduler, self._plateaus[config.monitor])
        self._plateaus = {}
        if any(_has_stopped(callback) for callback in trainer.callbacks if isinstance(callback, EarlyStopping)):
            trainer.should_stop = True
        self._listen(trainer)
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()
        if trainer.ckpt_path is None:
            self._save(trainer)

    def _listen(self, trainer: Trainer) -> None:
        environment = trainer._accelerator_connector.cluster_environment
        requeued = isinstance(environment, SLURMEnvironment) and environment.auto_requeue
        self._signals.install(environment.requeue_signal if requeued else None)
        if trainer.received_sigterm:  # before now, by Lightning, which would end without saving
            self._signals.received = signal.SIGTERM
            trainer._signal_connector.received_sigterm = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # type: ignore[override]
        """Forgets what was of the epoch before."""
        self._plateaus = {}

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves, if it is time; and stops, if that is wished."""
        if trainer.fast_dev_run:
            return
        done, together = batch_idx + 1, trainer.accumulate_grad_batches
        ends = done == trainer.num_training_batches or 0 <= trainer.max_steps <= trainer.global_step
        if ends or done % together or _validates(trainer, within=0):
            return  # soon then: gradients that wait for others are in no checkpoint, nor is a validation that is due
        self._signals.run_postponed()
        agreed = self._agreed(trainer, _STOP if self._signals.received else _DUE if self._is_due(trainer) else 0)
        if agreed:
            self._save(trainer)
        if agreed == _STOP:
            self._stop(trainer)
        self._before_validation = None
        if _validates(trainer, within=together) and trainer.strategy.restore_checkpoint_after_setup is False:
            state = trainer._checkpoint_connector.dump_checkpoint(False)
            self._before_validation = apply_to_collection(state, Tensor, _copied)

    def on_validation_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stops, if that is wished; several processes do at the end, since not all have as many batches."""
        if trainer.world_size == 1:
            self._stop_in_validation(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # type: ignore[override]
        """Stops, if that is wished."""
        self._stop_in_validation(trainer)

    def _stop_in_validation(self, trainer: Trainer) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit" or trainer.fast_dev_run:
            return
        if self._agreed(trainer, _STOP if self._signals.received else 0) == _STOP:
            if self._before_validation is not None:
                self._save(trainer, self._before_validation)
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # type: ignore[override]
        """Saves; and stops, if that is wished."""
        if trainer.fast_dev_run:
            return
        self._before_validation = None
        metrics = trainer.callback_metrics
        waiting = [config.monitor for config in trainer.lr_scheduler_configs if config.reduce_on_plateau]
        self._plateaus = {str(name): metrics[name].clone() for name in waiting if name in metrics}
        self._save(trainer)
        if self._agreed(trainer, _STOP if self._signals.received else 0) == _STOP:
            self._stop(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # type: ignore[override]
        """Lets signals be what they were."""
        self._signals.restore()

    def on_exception(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Lets signals be what they were."""
        self._signals.restore()

    def _is_due(self, trainer: Trainer) -> bool:
        every, step = self.every_n_steps, trainer.global_step
        if every is not None and step // every > self._saved_step // every:
            return True
        return self.every_minutes is not None and time.monotonic() - self._saved_time >= 60 * self.every_minutes

    @staticmethod
    def _agreed(trainer: Trainer, wish: int) -> int:
        """The most that any process wishes."""
        if trainer.world_size == 1:
            return wish
        most = trainer.strategy.reduce(torch.tensor(wish, device=trainer.strategy.root_device), reduce_op="max")
        return int(most)

    def _save(self, trainer: Trainer, state: dict[str, Any] | None = None) -> None:
        file = self._file_of(trainer)
        if state is None:
            trainer.save_checkpoint(file)
        else:
            trainer.write_checkpoint(state, file)
        self.file = file
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()

    def _stop(self, trainer: Trainer) -> None:
        number = self._signals.received or signal.SIGTERM  # that another process got
        raise Stopped(number, self.file or self._file_of(trainer), trainer.global_rank)

    @staticmethod
    def _file_of(trainer: Trainer) -> Path:
        folder = trainer.loggers[0].log_dir if trainer.loggers else None
        return Path(trainer.strategy.broadcast(folder or trainer.default_root_dir), "checkpoints", LAST)


def _validates(trainer: Trainer, within: int) -> bool:
    """Whether a validation comes after the batch that just ended (0), or after one of so many that follow."""
    if not trainer.enable_validation or not sum(trainer.num_val_batches or [1]):
        return False
    loop, every = trainer.fit_loop.epoch_loop, trainer.val_check_batch
    if every is None or not loop._should_check_val_epoch():
        return False
    done = (loop.total_batch_idx if trainer.check_val_every_n_epoch is None else loop.batch_idx) + 1
    ends = loop.batch_idx + 1 + within >= trainer.num_training_batches  # where a validation is, however often else
    return ends or any((done + more) % every == 0 for more in range(min(within, 1), within + 1))


def _has_stopped(callback: EarlyStopping) -> bool:
    return callback.stopped_epoch > 0 and callback.wait_count >= callback.patience


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
