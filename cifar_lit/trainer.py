"""Lightning's Trainer, with a subcommand that finds a learning rate and a ``fit`` that can use it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, LearningRateMonitor, ProgressBar
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.tuner import Tuner
from lightning.pytorch.tuner.lr_finder import _LRFinder
from lightning.pytorch.utilities import rank_zero_info

from cifar_lit.classifier import Classifier
from cifar_lit.errors import InputError


class Trainer(pl.Trainer):
    """Trains, validates and tests; see Lightning's documentation of its Trainer for what is not said here.

    Args:
        callbacks: What watches the run. Those that another option switches off are left out.
        logger: Where curves and pictures go; False for nowhere.
        enable_progress_bar: Whether to show the progress bar.
        enable_checkpointing: Whether to save checkpoints.
        **kwargs: See Lightning's Trainer.
    """

    def __init__(
        self,
        *,
        callbacks: list[Callback] | Callback | None = None,
        logger: Logger | Iterable[Logger] | bool | None = None,
        enable_progress_bar: bool | None = None,
        enable_checkpointing: bool | None = None,
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
        super().__init__(
            callbacks=[callback for callback in listed if not isinstance(callback, tuple(off))],
            logger=None if barebones else logger,
            enable_progress_bar=enable_progress_bar,
            enable_checkpointing=enable_checkpointing,
            **kwargs,
        )

    def fit(
        self,
        model: pl.LightningModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: pl.LightningDataModule | None = None,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
        lr_find: bool = False,
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
        """
        if lr_find:
            assert isinstance(model, Classifier)
            if ckpt_path is not None:
                raise InputError("--lr_find begins a run and --ckpt_path goes on with one: give one of the two")
            self.lr_find(model, datamodule)
        super().fit(model, train_dataloaders, val_dataloaders, datamodule, ckpt_path, weights_only)

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
        model.judges_loss = False  # that of too high a rate may well be NaN
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
            model.judges_loss = True
        if finder is None:
            raise InputError("the learning rate cannot be sought with trainer.fast_dev_run; remove it")
        finder.results["loss"] = unbiased(finder.results["loss"])
        suggestion = tenth_of_minimum(finder)
        model.lr = suggestion
        model.hparams["lr"] = suggestion
        rank_zero_info(f"Suggested learning rate: {suggestion:.3g} (model.lr; OneCycleLR's peak as well)")
        if self.is_global_zero and isinstance(self.logger, TensorBoardLogger):
            _write_plot(finder, suggestion, self.logger)
        return suggestion


def unbiased(losses: list[float]) -> list[float]:
    """Lightning's smoothed losses, with the start of the average rightly accounted for.

    It divides the n-th exponential average by 1 - beta^(n+1) where 1 - beta^n is meant (Kingma & Ba 2014,
    arXiv:1412.6980, section 3), so that its curve begins at half the loss.

    >>> average = 0.02 * 3.0  # of one loss of 3.0
    >>> round(unbiased([average / (1 - 0.98**2)])[0], 6)
    3.0
    """
    beta = 0.98  # of lightning.pytorch.tuner.lr_finder._LRCallback
    return [loss * (1 - beta ** (n + 1)) / (1 - beta**n) for n, loss in enumerate(losses, start=1)]


def tenth_of_minimum(finder: _LRFinder) -> float:
    """A tenth of the rate at which the smoothed loss is lowest: well below divergence, and still fast.

    Lightning's own suggestion, the steepest descent per difference of rates, always favours the smallest rates of an
    exponential scale: 1e-6 where training works best at 3e-3.

    Source: the "minimum" rule of fastai's learning-rate finder (Howard & Gugger 2020, arXiv:2002.04688).
    """
    rates, losses = np.array(finder.results["lr"]), np.array(finder.results["loss"])
    settled = slice(10, None)  # Lightning's margin: of the first losses, the mean is of a few batches only
    rates, losses = rates[settled], losses[settled]
    if not np.isfinite(losses).any():
        raise InputError("the loss diverged before a learning rate could be found; lower min_lr, or raise num_training")
    return float(rates[np.nanargmin(np.where(np.isfinite(losses), losses, np.nan))]) / 10


def _write_plot(finder: _LRFinder, suggestion: float, logger: TensorBoardLogger) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), dpi=100, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    finder.plot(ax=axes)
    axes.axvline(suggestion, color="tab:red", linestyle="--", label=f"suggestion {suggestion:.3g}")
    axes.set(xlabel="learning rate", ylabel="training loss, smoothed", title="Learning-rate finder")
    axes.legend()
    file = Path(logger.log_dir) / "lr_find.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
    canvas.draw()
    picture = torch.from_numpy(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    logger.experiment.add_image("your run/learning-rate finder", picture, 0, dataformats="HWC")
    rank_zero_info(f"Plot: {file}")
