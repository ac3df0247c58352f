"""The checkpoint that a run goes on from."""

import signal
import time
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.fabric.utilities.apply_func import apply_to_collection
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from cifar_lit.atomic_file import write_atomically
from cifar_lit.errors import InputError, Stopped
from cifar_lit.import_allowlist import own_modules
from cifar_lit.training.checkpointing.checkpoint_files import LAST
from cifar_lit.training.checkpointing.graceful_shutdown import GracefulShutdown
from cifar_lit.training.lightning_compat import (
    clear_received_sigterm,
    cluster_environment,
    dump_checkpoint,
    is_between_epochs,
    mark_epoch_as_complete,
    restore_callback_metrics,
    validates_in_this_epoch,
)
from cifar_lit.training.trainer import Trainer

_DUE, _STOP, _REQUEUE = 1, 2, 3  # what processes agree on
_ASKED = 8  # steps after which several processes ask each other, since that makes a GPU wait


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
        self._signals = GracefulShutdown()
        self._saved_step, self._saved_time = 0, 0.0
        self._before_validation: dict[str, Any] | None = None
        self._then: dict[str, Any] = {}  # what a checkpoint that is loaded tells beside the state of Lightning's parts

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds what Lightning forgets: the metrics that schedules and early stopping wait for, and their verdict."""
        checkpoint["resume_state"] = {
            "metrics": {name: value.cpu() for name, value in trainer.callback_metrics.items()},
            "should_stop": bool(trainer.should_stop),
            "epoch_ended": is_between_epochs(trainer),
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Takes that over."""
        self._then = checkpoint.get("resume_state", {})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes good what Lightning forgets; begins to listen to signals; saves where a run begins."""
        if trainer.fast_dev_run:
            return
        self._restore(trainer, pl_module)
        self._listen(trainer)
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()
        if trainer.ckpt_path is None:
            self._save(trainer)
        else:
            self._keep_own(trainer, Path(str(trainer.ckpt_path)))

    def _restore(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics, self._then = self._then.get("metrics", {}), dict(self._then)
        restore_callback_metrics(trainer, {name: value.to(pl_module.device) for name, value in metrics.items()})
        if self._then.get("should_stop"):
            trainer.should_stop = True
        for config in trainer.lr_scheduler_configs if self._then.get("epoch_ended") else ():
            # Told after the epoch's end, when its checkpoint was written
            due = config.interval == "epoch" and trainer.current_epoch % config.frequency == 0
            if due and config.reduce_on_plateau and config.monitor in metrics:
                pl_module.lr_scheduler_step(config.scheduler, metrics[config.monitor])
        self._then = {}

    def _keep_own(self, trainer: Trainer, begun_with: Path) -> None:
        """Has the run a last.ckpt of its own from its first moment, also where it goes on from another file."""
        file = self._file_of(trainer)
        if trainer.is_global_zero and begun_with.is_file() and file.absolute() != begun_with.absolute():
            write_atomically(file, begun_with.read_bytes())
        trainer.strategy.barrier()

    def _listen(self, trainer: Trainer) -> None:
        environment = cluster_environment(trainer)
        slurm = environment if isinstance(environment, SLURMEnvironment) and environment.auto_requeue else None
        self._signals.install(None if slurm is None else slurm.requeue_signal)
        if trainer.received_sigterm:  # before now, by Lightning, which would end without saving
            self._signals.received = signal.SIGTERM
            clear_received_sigterm(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves, if it is time; and stops, if that is wished."""
        if trainer.fast_dev_run:
            return
        done, together = batch_idx + 1, trainer.accumulate_grad_batches
        if self._epoch_ends(trainer, done) or done % together or _validates(trainer, within=0):
            return  # soon then: gradients that wait for others are in no checkpoint, nor is a validation that is due
        self._grant(trainer, self._agreed(trainer))
        self._before_validation = None
        if _validates(trainer, within=together) and trainer.strategy.restore_checkpoint_after_setup is False:
            state = dump_checkpoint(trainer)
            self._before_validation = apply_to_collection(state, Tensor, _copied)

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
        wished = self._is_of_training(trainer) and trainer.world_size == 1 and self._signals.received
        if wished and self._before_validation is not None:
            self._save(trainer, self._before_validation)
            self._stop(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves what was due before it; and stops, if that is wished. At an epoch's end, that comes after it."""
        loop = trainer.fit_loop.epoch_loop
        if self._is_of_training(trainer) and not self._epoch_ends(trainer, loop.batch_idx + 1):
            self._before_validation = None
            self._grant(trainer, self._agreed(trainer, ask=True))

    @staticmethod
    def _is_of_training(trainer: Trainer) -> bool:
        return not trainer.sanity_checking and trainer.state.fn == "fit" and not trainer.fast_dev_run

    @staticmethod
    def _epoch_ends(trainer: Trainer, done: int) -> bool:
        return done == trainer.num_training_batches or 0 <= trainer.max_steps <= trainer.global_step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves; and stops, if that is wished."""
        if trainer.fast_dev_run:
            return
        # Or Lightning, after it has gone on within an epoch, would not tell schedules that wait for a plateau
        mark_epoch_as_complete(trainer)
        self._before_validation = None
        self._grant(trainer, max(_DUE, self._agreed(trainer, ask=True)))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lets signals be what they were."""
        self._signals.restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Lets signals be what they were."""
        self._signals.restore()

    def _agreed(self, trainer: Trainer, ask: bool = False) -> int:
        """What is to be done: the most that any process wishes.

        Args:
            trainer: The trainer.
            ask: Ask the other processes even if it is not time to.
        """
        every, step = self.every_n_steps, trainer.global_step
        wish = _DUE if every is not None and step // every > self._saved_step // every else 0  # the same in all
        if trainer.world_size > 1 and not (ask or step % _ASKED == 0):
            return wish
        if self.every_minutes is not None and time.monotonic() - self._saved_time >= 60 * self.every_minutes:
            wish = _DUE
        if self._signals.received:
            wish = _STOP
        if self._signals.postponed:
            wish = _REQUEUE
        if trainer.world_size == 1:
            return wish
        most = trainer.strategy.reduce(torch.tensor(wish, device=trainer.strategy.root_device), reduce_op="max")
        return int(most)

    def _grant(self, trainer: Trainer, wish: int) -> None:
        if wish == _REQUEUE:
            self._signals.run_postponed()  # which saves and ends
        if wish in (_DUE, _STOP):
            self._save(trainer)
        if wish == _STOP:
            self._stop(trainer)

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
        raise Stopped(number, self.file or self._file_of(trainer), trainer.global_rank, own_modules())

    @staticmethod
    def _file_of(trainer: Trainer) -> Path:
        folder = trainer.loggers[0].log_dir if trainer.loggers else None
        return Path(trainer.strategy.broadcast(folder or trainer.default_root_dir), "checkpoints", LAST)


def _validates(trainer: Trainer, within: int) -> bool:
    """Whether a validation comes after the batch that just ended (0), or after one of so many that follow."""
    if not trainer.enable_validation or not sum(trainer.num_val_batches or [1]):
        return False
    loop, every = trainer.fit_loop.epoch_loop, trainer.val_check_batch
    if every is None or not validates_in_this_epoch(trainer):
        return False
    done = (loop.total_batch_idx if trainer.check_val_every_n_epoch is None else loop.batch_idx) + 1
    ends = loop.batch_idx + 1 + within >= trainer.num_training_batches  # where a validation is, however often else
    return ends or any((done + more) % every == 0 for more in range(min(within, 1), within + 1))


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
