"""Lightning's Trainer with a learning-rate finder and atomic checkpoints."""

from collections.abc import Iterable
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint, LearningRateMonitor, ProgressBar
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.tuner import Tuner
from lightning.pytorch.utilities import rank_zero_info

from cifar_lit.errors import InputError
from cifar_lit.training.checkpointing.checkpoint_io import AtomicCheckpointIO
from cifar_lit.training.classifier import Classifier
from cifar_lit.training.lightning_compat import dump_checkpoint, is_between_epochs, mark_epoch_as_complete
from cifar_lit.training.lr_curve import tenth_of_minimum, unbias, write_plot
from cifar_lit.training.oom import explain_out_of_memory
from cifar_lit.training.optim.configure import configured_peak


class Trainer(pl.Trainer):
    """Train, validate and test; see Lightning's Trainer for the arguments not listed here.

    Args:
        callbacks: The callbacks; those that another option switches off are removed.
        logger: The logger, or False for none.
        enable_progress_bar: Whether to show the progress bar.
        enable_checkpointing: Whether to save checkpoints.
        check_val_every_n_epoch: Validate every n epochs, and after the last one; null to validate every
            ``val_check_interval`` batches across epochs.
        **kwargs: See Lightning's Trainer.
    """

    def __init__(
        self,
        *,
        callbacks: list[Callback] | Callback | None = None,
        logger: Logger | Iterable[Logger] | bool | None = None,
        enable_progress_bar: bool | None = None,
        enable_checkpointing: bool | None = None,
        check_val_every_n_epoch: int | None = 1,
        **kwargs: Any,
    ) -> None:
        barebones = bool(kwargs.get("barebones"))
        off: list[type[Callback]] = []
        if enable_progress_bar is False or barebones:
            off.append(ProgressBar)
        if enable_checkpointing is False or barebones or kwargs.get("fast_dev_run"):
            off.append(Checkpoint)
        if logger is False or barebones or kwargs.get("fast_dev_run"):
            off.append(LearningRateMonitor)
        listed = callbacks if isinstance(callbacks, list) else [callbacks] if callbacks else []
        kept = [callback for callback in listed if not isinstance(callback, tuple(off))]
        try:
            super().__init__(
                callbacks=kept if check_val_every_n_epoch in (None, 1) else [*kept, _ValidateLastEpoch()],
                logger=None if barebones else logger,
                enable_progress_bar=enable_progress_bar,
                enable_checkpointing=enable_checkpointing,
                check_val_every_n_epoch=check_val_every_n_epoch,
                **kwargs,
            )
        except (ValueError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not str(error).startswith("You set `--ntasks"):
                raise
            # Lightning's own message: conflicting settings, or a SLURM job without --ntasks-per-node
            raise InputError(f"trainer: {error}") from error
        plugins = kwargs.get("plugins") or []
        if not any(isinstance(one, CheckpointIO) for one in (plugins if isinstance(plugins, list) else [plugins])):
            self.strategy.checkpoint_io = AtomicCheckpointIO()

    def fit(
        self,
        model: pl.LightningModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: pl.LightningDataModule | None = None,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
        lr_find: bool = False,
        resume: bool = False,
    ) -> None:
        """Train the network.

        Args:
            model: The classifier.
            train_dataloaders: Training batches, without a datamodule.
            val_dataloaders: Validation batches, without a datamodule.
            datamodule: The data.
            ckpt_path: Resume from this checkpoint: a file, or ``last`` for the newest of this configuration.
            weights_only: Load only tensors and plain values from the checkpoint, so that it cannot run code.
            lr_find: Find a learning rate first, and train with it as the peak.
            resume: Resume the newest run of this configuration, or start one; the same command can be repeated until
                the run has finished.
        """
        with explain_out_of_memory(datamodule, self.strategy.root_device):
            if lr_find and not (resume and ckpt_path is not None):
                assert isinstance(model, Classifier)
                if ckpt_path is not None:
                    raise InputError("--lr_find starts a run and --ckpt_path resumes one: use one of the two")
                self.lr_find(model, datamodule)
            super().fit(model, train_dataloaders, val_dataloaders, datamodule, ckpt_path, weights_only)

    def _run_stage(self) -> Any:
        if self.state.fn == "fit" and is_between_epochs(self):
            mark_epoch_as_complete(self)
        return super()._run_stage()

    def save_checkpoint(
        self,
        filepath: Any,
        weights_only: bool = False,
        storage_options: Any = None,
        state: dict[str, Any] | None = None,
    ) -> None:
        """Save a checkpoint, after flushing the curves up to it, so that a resumed run continues them.

        Called in all processes.

        Args:
            filepath: The file.
            weights_only: Leave out the state that only training needs.
            storage_options: Options of the checkpoint plugin.
            state: The content; by default, the current state.

        Raises:
            InputError: in the first process, if it cannot be written; the others exit.
        """
        state = dump_checkpoint(self, weights_only) if state is None else state
        for logger in self.loggers:
            logger.save()
        failure: InputError | None = None
        try:
            self.strategy.save_checkpoint(state, filepath, storage_options=storage_options)
        except InputError as error:
            failure = error
        failed = self.strategy.reduce_boolean_decision(failure is not None, all=False)
        if failure is not None:
            raise failure
        if failed:
            raise SystemExit(0)  # the first process prints the error

    def lr_find(
        self,
        model: Classifier,
        datamodule: pl.LightningDataModule | None = None,
        min_lr: float = 1e-6,
        max_lr: float = 1.0,
        num_training: int = 100,
    ) -> float:
        """Find a learning rate: train with exponentially growing rates, and suggest a tenth of the best.

        Sets the model's ``lr`` to the suggestion; its weights are restored.

        Args:
            model: The classifier.
            datamodule: The data.
            min_lr: First rate to try.
            max_lr: Last rate to try.
            num_training: Number of rates to try, one per step.

        Source: L. Smith 2015, arXiv:1506.01186, section 3.3; Lightning's Tuner.
        """
        if num_training < 20:
            raise InputError(f"num_training must be at least 20 for a useful curve, got {num_training}")
        if not 0 < min_lr < max_lr:
            raise InputError(f"min_lr must be above 0 and below max_lr, got {min_lr} and {max_lr}")
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        rates = {group["lr"] for group in model.optimizer(weights).param_groups}
        if len(rates) > 1:
            raise InputError(
                f"the optimizer has {len(rates)} learning rates ({', '.join(f'{rate:g}' for rate in rates)}), and"
                " a search finds only one; try a few values of model.lr, which keeps them in proportion"
            )
        configured = configured_peak(model.lr_scheduler, model.lr) or rates.pop()
        epochs = self.fit_loop.max_epochs
        self.fit_loop.max_epochs = num_training  # enough even with one batch per epoch; the search ends by its steps
        model.stops_at_nan = False  # the loss of too high a rate may be NaN
        try:
            finder = Tuner(self).lr_find(
                model,
                datamodule=datamodule,
                min_lr=min_lr,
                max_lr=max_lr,
                num_training=num_training,
                early_stop_threshold=8.0,  # 4 times the best loss, which Lightning's smoothing may halve
                update_attr=False,
            )
        finally:
            self.fit_loop.max_epochs = epochs
            model.stops_at_nan = True
        if finder is None:
            raise InputError("the learning-rate finder does not run with trainer.fast_dev_run; remove it")
        finder.results["loss"] = unbias(finder.results["loss"])
        suggestion = tenth_of_minimum(finder)
        model.lr = suggestion
        model.hparams["lr"] = suggestion
        rank_zero_info(f"Suggested learning rate: {suggestion:.3g} (configured: {configured})")
        if self.is_global_zero and isinstance(self.logger, TensorBoardLogger):
            write_plot(finder, suggestion, self.logger)
        return suggestion


class _ValidateLastEpoch(Callback):
    """Also validate after the last epoch, regardless of ``check_val_every_n_epoch``."""

    _every: int | None = None  # the setting before the last epoch

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_train_epoch_start(trainer, pl_module)  # not called when a run resumes within an epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        every = trainer.check_val_every_n_epoch
        steps = -(-trainer.num_training_batches // trainer.accumulate_grad_batches)
        if every is not None and every > 1 and trainer.global_step + steps >= trainer.estimated_stepping_batches:
            self._every = self._every or every
            trainer.check_val_every_n_epoch = trainer.current_epoch + 1  # divides the number of this epoch

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._every is not None:
            trainer.check_val_every_n_epoch, self._every = self._every, None
