"""The checkpoint that a run resumes from."""

import shlex
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.fabric.utilities.apply_func import apply_to_collection
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from cifar_lit.errors import InputError
from cifar_lit.import_allowlist import allow_options
from cifar_lit.safe_files import write_atomically
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

_SAVE, _STOP, _REQUEUE = 1, 2, 3  # actions that processes agree on
_SYNC_EVERY = 8  # steps between synchronizations of several processes, which stall the GPU


class LastCheckpoint(Checkpoint):
    """Save ``checkpoints/last.ckpt`` in the run's folder, from which the run resumes bit for bit.

    It is saved when training begins, at the end of every epoch, optionally in between, and on SIGTERM or Ctrl-C, which
    stop training after the current step. A signal during validation saves the state from before validation, of which
    a copy is kept in memory.

    Args:
        every_n_steps: Also save every n steps.
        every_minutes: Also save when n minutes have passed since the last save.
    """

    def __init__(self, every_n_steps: int | None = None, every_minutes: float | None = None) -> None:
        if (every_n_steps is not None and every_n_steps < 1) or (every_minutes is not None and every_minutes <= 0):
            raise InputError(
                "last_checkpoint: every_n_steps must be at least 1 and every_minutes above 0,"
                f" got {every_n_steps} and {every_minutes}"
            )
        self.every_n_steps, self.every_minutes = every_n_steps, every_minutes
        self.file: Path | None = None  # set when training starts
        self._signals = GracefulShutdown()
        self._saved_step, self._saved_time = 0, 0.0
        self._before_validation: dict[str, Any] | None = None
        self._resume_state: dict[str, Any] = {}  # of the checkpoint being loaded

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add state that Lightning drops: the metrics that schedules and early stopping monitor, and should_stop."""
        checkpoint["resume_state"] = {
            "metrics": {name: value.cpu() for name, value in trainer.callback_metrics.items()},
            "should_stop": bool(trainer.should_stop),
            "epoch_ended": is_between_epochs(trainer),
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember that state until training starts."""
        self._resume_state = checkpoint.get("resume_state", {})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore that state, install the signal handlers, and save the initial state."""
        folder = trainer.loggers[0].log_dir if trainer.loggers else None
        self.file = Path(trainer.strategy.broadcast(folder or trainer.default_root_dir), "checkpoints", LAST)
        self._restore(trainer, pl_module)
        self._install_signal_handlers(trainer)
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()
        if trainer.ckpt_path is None:
            self._save(trainer)
        else:
            self._copy_source(self.file, trainer)

    def _restore(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics, self._resume_state = self._resume_state.get("metrics", {}), dict(self._resume_state)
        restore_callback_metrics(trainer, {name: value.to(pl_module.device) for name, value in metrics.items()})
        if self._resume_state.get("should_stop"):
            trainer.should_stop = True
        for config in trainer.lr_scheduler_configs if self._resume_state.get("epoch_ended") else ():
            # Lightning steps this schedule after the epoch's end, when the checkpoint was already saved
            due = config.interval == "epoch" and trainer.current_epoch % config.frequency == 0
            if due and config.reduce_on_plateau and config.monitor in metrics:
                pl_module.lr_scheduler_step(config.scheduler, metrics[config.monitor])
        self._resume_state = {}

    @staticmethod
    def _copy_source(file: Path, trainer: Trainer) -> None:
        """Copy the checkpoint that the run resumes from to its own last.ckpt."""
        source = Path(str(trainer.ckpt_path))
        if trainer.is_global_zero and source.is_file() and file.absolute() != source.absolute():
            try:
                write_atomically(file, source.read_bytes())
            except OSError as error:
                raise InputError(f"{file} cannot be written ({error.strerror or error}); remove it") from error
        trainer.strategy.barrier()

    def _install_signal_handlers(self, trainer: Trainer) -> None:
        environment = cluster_environment(trainer)
        slurm = environment if isinstance(environment, SLURMEnvironment) and environment.auto_requeue else None
        self._signals.install(None if slurm is None else slurm.requeue_signal)
        if trainer.received_sigterm:  # by Lightning's handler, which would exit without saving
            self._signals.received = signal.SIGTERM
            clear_received_sigterm(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if due; stop if requested."""
        self._signals.batch_ended()
        done, together = batch_idx + 1, trainer.accumulate_grad_batches
        if self._epoch_ends(trainer, done) or done % together or _validates(trainer, within=0):
            return  # later: a checkpoint holds neither accumulated gradients nor a pending validation
        self._perform(trainer, self._agreed_action(trainer))
        self._before_validation = None
        if _validates(trainer, within=together) and trainer.strategy.restore_checkpoint_after_setup is False:
            state = dump_checkpoint(trainer)
            self._before_validation = apply_to_collection(state, Tensor, _copy_to_cpu)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop if requested; several processes wait for the end, since their numbers of batches differ."""
        self._signals.batch_ended()
        requested = self._is_training_run(trainer) and trainer.world_size == 1 and self._signals.received
        if requested and self._before_validation is not None:
            self._save(trainer, self._before_validation)
            self._stop(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if due before the validation, and stop if requested; at an epoch's end, ``on_train_epoch_end`` does."""
        loop = trainer.fit_loop.epoch_loop
        if self._is_training_run(trainer) and not self._epoch_ends(trainer, loop.batch_idx + 1):
            self._before_validation = None
            self._perform(trainer, self._agreed_action(trainer, sync=True))

    @staticmethod
    def _is_training_run(trainer: Trainer) -> bool:
        return not trainer.sanity_checking and trainer.state.fn == "fit"

    @staticmethod
    def _epoch_ends(trainer: Trainer, done: int) -> bool:
        return done == trainer.num_training_batches or 0 <= trainer.max_steps <= trainer.global_step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save; stop if requested."""
        mark_epoch_as_complete(trainer)
        self._before_validation = None
        self._perform(trainer, max(_SAVE, self._agreed_action(trainer, sync=True)))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the signal handlers."""
        self._signals.restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the signal handlers."""
        self._signals.restore()

    def _agreed_action(self, trainer: Trainer, sync: bool = False) -> int:
        """Return the action that the processes agree on, the highest that any requests, or 0.

        Args:
            trainer: The trainer.
            sync: Exchange requests with the other processes even if that is not due.
        """
        every, step = self.every_n_steps, trainer.global_step
        # The same in all processes
        action = _SAVE if every is not None and step // every > self._saved_step // every else 0
        if trainer.world_size > 1 and not (sync or step % _SYNC_EVERY == 0):
            return action
        if self.every_minutes is not None and time.monotonic() - self._saved_time >= 60 * self.every_minutes:
            action = _SAVE
        if self._signals.received:
            action = _STOP
        if self._signals.postponed:
            action = _REQUEUE
        if trainer.world_size == 1:
            return action
        requested = torch.tensor(action, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(requested, reduce_op="max"))

    def _perform(self, trainer: Trainer, action: int) -> None:
        if action == _REQUEUE:
            self._signals.run_postponed()  # saves and exits
        if action in (_SAVE, _STOP):
            self._save(trainer)
        if action == _STOP:
            self._stop(trainer)

    def _save(self, trainer: Trainer, state: dict[str, Any] | None = None) -> None:
        trainer.save_checkpoint(self.file, state=state)
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()

    def _stop(self, trainer: Trainer) -> None:
        number = self._signals.received or signal.SIGTERM  # received by another process
        words = ["uv", "run", "main.py", "fit", "--ckpt_path", str(self.file), *allow_options()]
        if trainer.is_global_zero:
            print(f"Stopped by {signal.Signals(number).name}. To resume: {shlex.join(words)}", file=sys.stderr)
        raise SystemExit(128 + number if trainer.is_global_zero else 0)  # Lightning kills rank 0 if another one fails


def _validates(trainer: Trainer, within: int) -> bool:
    """Whether a validation follows the batch that just ended (0), or one of the next ``within`` batches."""
    if not trainer.enable_validation or not sum(trainer.num_val_batches or [1]):
        return False
    loop, every = trainer.fit_loop.epoch_loop, trainer.val_check_batch
    if every is None or not validates_in_this_epoch(trainer):
        return False
    done = (loop.total_batch_idx if trainer.check_val_every_n_epoch is None else loop.batch_idx) + 1
    ends = loop.batch_idx + 1 + within >= trainer.num_training_batches  # an epoch always ends with a validation
    return ends or any((done + more) % every == 0 for more in range(min(within, 1), within + 1))


def _copy_to_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
