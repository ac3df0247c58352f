"""The checkpoint that a run goes on from."""

import signal
import time
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.fabric.utilities.apply_func import apply_to_collection
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from cifar_lit.checkpoints import LAST
from cifar_lit.errors import InputError, Stopped
from cifar_lit.logger import RunLogger
from cifar_lit.resuming.signals import StopSignals


class LastCheckpoint(Checkpoint):
    """Writes ``checkpoints/last.ckpt`` in the run's folder, from which the run goes on exactly, to the bit.

    It is written at the end of every epoch, as often in between as you like, and when the run gets SIGTERM or Ctrl-C:
    then at the end of the step, and training ends. During validation no step ends; what is written then is how things
    stood before the epoch's last step, of which a copy is kept in memory.

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
        self._before_last_step: dict[str, Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to listen to signals, but for SIGTERM under SLURM, which has a way of its own to go on."""
        environment = trainer._accelerator_connector.cluster_environment
        requeued = isinstance(environment, SLURMEnvironment) and environment.auto_requeue
        self._signals.install(frozenset({signal.SIGTERM}) if requeued else frozenset())
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves, if it is time; and stops, if that is wished."""
        done, batches, together = batch_idx + 1, trainer.num_training_batches, trainer.accumulate_grad_batches
        if done == batches or done % together:
            return  # the end of the epoch is near; gradients that wait for others are in no checkpoint
        wished, due = self._stop_wished(trainer), self._agreed(trainer, self._is_due(trainer))
        if wished or due:
            self._save(trainer)
        if wished:
            self._stop(trainer)
        if batches != float("inf") and done == (int(batches) - 1) // together * together:
            state = trainer._checkpoint_connector.dump_checkpoint(False)
            self._before_last_step = apply_to_collection(state, Tensor, _copied)

    def on_validation_batch_end(
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

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops, if that is wished."""
        self._stop_in_validation(trainer)

    def _stop_in_validation(self, trainer: Trainer) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch or not self._stop_wished(trainer):
            return  # the next step's end will do, if there is one in this epoch
        if self._before_last_step is not None:
            self._save(trainer, self._before_last_step)
        self._stop(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves; and stops, if that is wished."""
        self._before_last_step = None
        self._save(trainer)
        if self._stop_wished(trainer):
            self._stop(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lets signals be what they were."""
        self._signals.restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Lets signals be what they were."""
        self._signals.restore()

    def _is_due(self, trainer: Trainer) -> bool:
        steps, seconds = trainer.global_step - self._saved_step, time.monotonic() - self._saved_time
        if self.every_n_steps is not None and steps > 0 and trainer.global_step % self.every_n_steps == 0:
            return True
        return self.every_minutes is not None and seconds >= 60 * self.every_minutes

    def _stop_wished(self, trainer: Trainer) -> bool:
        return self._agreed(trainer, self._signals.received is not None)

    @staticmethod
    def _agreed(trainer: Trainer, wished: bool) -> bool:
        """Whether any process wishes it."""
        return wished if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(wished, all=False)

    def _save(self, trainer: Trainer, state: dict[str, Any] | None = None) -> None:
        self.file = self._file_of(trainer)
        if state is None:
            trainer.save_checkpoint(self.file)
        else:  # as the trainer does
            for logger in trainer.loggers:
                if isinstance(logger, RunLogger):
                    logger.flush()
            trainer.strategy.save_checkpoint(state, self.file)
            trainer.strategy.barrier("last checkpoint")
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()

    def _stop(self, trainer: Trainer) -> None:
        file = self.file or self._file_of(trainer)
        number = self._signals.received or signal.SIGTERM  # that another process got
        raise Stopped(number, file if file.exists() else None, trainer.global_rank)

    @staticmethod
    def _file_of(trainer: Trainer) -> Path:
        folder = trainer.loggers[0].log_dir if trainer.loggers else None
        return Path(trainer.strategy.broadcast(folder or trainer.default_root_dir), "checkpoints", LAST)


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
