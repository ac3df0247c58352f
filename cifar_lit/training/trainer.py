"""Lightning's Trainer, with a subcommand that finds a learning rate and a ``fit`` that can use it."""

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
from cifar_lit.training.logger import RunLogger
from cifar_lit.training.lr_curve import tenth_of_minimum, write_plot
from cifar_lit.training.oom import explain_out_of_memory


class Trainer(pl.Trainer):
    """Trains, validates and tests; see Lightning's documentation of its Trainer for what is not said here.

    Args:
        callbacks: What watches the run. Those that another option switches off are left out.
        logger: Where curves and pictures go; False for nowhere.
        enable_progress_bar: Whether to show the progress bar.
        enable_checkpointing: Whether to save checkpoints.
        check_val_every_n_epoch: Judge by the validation images after every so many epochs, and after the last; null
            for every ``val_check_interval`` batches, whatever the epoch.
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
        if enable_checkpointing is False or barebones:
            off.append(Checkpoint)
        if logger is False or barebones or kwargs.get("fast_dev_run"):
            off.append(LearningRateMonitor)
        listed = callbacks if isinstance(callbacks, list) else [callbacks] if callbacks else []
        kept = [callback for callback in listed if not isinstance(callback, tuple(off))]
        try:
            super().__init__(
                callbacks=kept if check_val_every_n_epoch in (None, 1) else [*kept, _LastEpochJudged()],
                logger=None if barebones else logger,
                enable_progress_bar=enable_progress_bar,
                enable_checkpointing=enable_checkpointing,
                check_val_every_n_epoch=check_val_every_n_epoch,
                **kwargs,
            )
        except (ValueError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not str(error).startswith("You set `--ntasks"):
                raise
            # Settings that exclude each other, and a SLURM job without --ntasks-per-node, in Lightning's own words
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
        """Trains the network.

        Args:
            model: The classifier.
            train_dataloaders: Training batches, where there is no datamodule.
            val_dataloaders: Validation batches, where there is no datamodule.
            datamodule: The data.
            ckpt_path: Go on from this checkpoint: a file, or ``last`` for the newest of this configuration.
            weights_only: Read from the checkpoint nothing but tensors and plain values, so that it can run no code.
            lr_find: First find a learning rate, and train with it as the peak.
            resume: Go on with the newest run of this configuration, if there is one: the command to give again and
                again, whatever happens to it.
        """
        with explain_out_of_memory(datamodule, self.strategy.root_device):
            if lr_find and not (resume and ckpt_path is not None):
                assert isinstance(model, Classifier)
                if ckpt_path is not None:
                    raise InputError("--lr_find begins a run and --ckpt_path goes on with one: give one of the two")
                self.lr_find(model, datamodule)
            super().fit(model, train_dataloaders, val_dataloaders, datamodule, ckpt_path, weights_only)

    def _run_stage(self) -> Any:
        if self.state.fn == "fit" and is_between_epochs(self):
            mark_epoch_as_complete(self)
        return super()._run_stage()

    def save_checkpoint(self, filepath: Any, weights_only: bool = False, storage_options: Any = None) -> None:
        """Saves a checkpoint; called in all processes.

        Args:
            filepath: Where to.
            weights_only: Leave out what only training needs.
            storage_options: Of the checkpoint plugin.

        Raises:
            InputError: in the first process, if it cannot be written; the others end.
        """
        if self.model is None:
            raise AttributeError("there is nothing to save before fit, validate or test")
        self.write_checkpoint(dump_checkpoint(self, weights_only), filepath, storage_options)

    def write_checkpoint(self, state: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Writes what a checkpoint holds, after all curves up to it: a run that goes on writes those that follow.

        Args:
            state: What it holds.
            filepath: Where to.
            storage_options: Of the checkpoint plugin.

        Raises:
            InputError: in the first process, if it cannot be written; the others end.
        """
        for logger in self.loggers:
            if isinstance(logger, RunLogger):
                logger.flush()
        failure: InputError | None = None
        try:
            self.strategy.save_checkpoint(state, filepath, storage_options=storage_options)
        except InputError as error:
            failure = error
        failed = failure is not None
        if self.world_size > 1:
            failed = self.strategy.reduce_boolean_decision(failed, all=False)
        if failure is not None:
            raise failure
        if failed:
            raise SystemExit(0)  # the first process tells

    def lr_find(
        self,
        model: Classifier,
        datamodule: pl.LightningDataModule | None = None,
        min_lr: float = 1e-6,
        max_lr: float = 1.0,
        num_training: int = 100,
    ) -> float:
        """Finds a learning rate: trains for a moment with ever higher rates, then takes a tenth of the best.

        The model's ``lr`` is set to it; its weights are as before.

        Args:
            model: The classifier.
            datamodule: The data.
            min_lr: The first rate to try.
            max_lr: The last rate to try.
            num_training: How many rates to try, one a step.

        Source: L. Smith 2015, arXiv:1506.01186, section 3.3; Lightning's finder makes the curve.
        """
        if num_training < 20:
            raise InputError(f"num_training must be at least 20 for a curve that tells anything, got {num_training}")
        if not 0 < min_lr < max_lr:
            raise InputError(f"min_lr must be above 0 and below max_lr, got {min_lr} and {max_lr}")
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        rates = {group["lr"] for group in model.optimizer(weights).param_groups}
        if len(rates) > 1:
            raise InputError(
                f"the optimizer has {len(rates)} learning rates ({', '.join(f'{rate:g}' for rate in rates)}), of which"
                " a search for one tells nothing; try a few values of model.lr, which keeps them in proportion"
            )
        epochs = self.fit_loop.max_epochs
        self.fit_loop.max_epochs = num_training  # enough even with one batch an epoch, for the search ends by its steps
        model.stops_at_nan = False  # that of too high a rate may well be NaN
        try:
            finder = Tuner(self).lr_find(
                model,
                datamodule=datamodule,
                min_lr=min_lr,
                max_lr=max_lr,
                num_training=num_training,
                early_stop_threshold=8.0,  # 4 times the best loss, which Lightning's smoothing may have halved
                update_attr=False,
            )
        finally:
            self.fit_loop.max_epochs = epochs
            model.stops_at_nan = True
        if finder is None:
            raise InputError("the learning rate cannot be sought with trainer.fast_dev_run; remove it")
        suggestion = tenth_of_minimum(finder)
        model.lr = suggestion
        model.hparams["lr"] = suggestion
        rank_zero_info(f"Suggested learning rate: {suggestion:.3g} (model.lr; OneCycleLR's peak as well)")
        if self.is_global_zero and isinstance(self.logger, TensorBoardLogger):
            write_plot(finder, suggestion, self.logger)
        return suggestion


class _LastEpochJudged(Callback):
    """Has the last epoch validated, whose network is the result, even if only every tenth is."""

    _every: int | None = None  # as it was before the last epoch

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_train_epoch_start(trainer, pl_module)  # which is not called where a run goes on within an epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        every = trainer.check_val_every_n_epoch
        steps = -(-trainer.num_training_batches // trainer.accumulate_grad_batches)
        if every is not None and every > 1 and trainer.global_step + steps >= trainer.estimated_stepping_batches:
            self._every = self._every or every
            trainer.check_val_every_n_epoch = trainer.current_epoch + 1  # a divisor of the epoch's number

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._every is not None:
            trainer.check_val_every_n_epoch, self._every = self._every, None
