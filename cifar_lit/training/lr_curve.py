"""The learning-rate finder's suggestion and plot."""

from pathlib import Path

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info

from cifar_lit.errors import InputError
from cifar_lit.tensorboard_tags import DATA
from cifar_lit.training.lightning_compat import LRFinderResult


def unbias(losses: list[float]) -> list[float]:
    """Correct the bias of Lightning's smoothed losses: they start at half the loss, at the lowest rates.

    Lightning divides the n-th exponential average by 1 - beta^(n+1) instead of 1 - beta^n.

    Source: Kingma & Ba 2014, arXiv:1412.6980, section 3.

    >>> average = 0.02 * 3.0  # of one loss of 3.0
    >>> round(unbias([average / (1 - 0.98**2)])[0], 6)
    3.0
    """
    beta = 0.98  # of Lightning's learning-rate finder
    return [loss * (1 - beta ** (n + 1)) / (1 - beta**n) for n, loss in enumerate(losses, start=1)]


def tenth_of_minimum(finder: LRFinderResult) -> float:
    """Return a tenth of the rate with the lowest smoothed loss, well below divergence.

    Lightning's own suggestion is the steepest slope over a linear scale of rates, which favors the smallest rates of an
    exponential search: 1e-6 where training works best at 3e-3.

    Source: the "minimum" rule of fastai's learning-rate finder (Howard & Gugger 2020, arXiv:2002.04688).
    """
    rates, losses = np.array(finder.results["lr"]), np.array(finder.results["loss"])
    rates, losses = rates[10:], losses[10:]  # as Lightning's skip_begin: the first smoothed losses are too noisy
    if not np.isfinite(losses).any():
        raise InputError("the loss diverged before a learning rate could be found; lower min_lr, or raise num_training")
    return float(rates[np.nanargmin(np.where(np.isfinite(losses), losses, np.nan))]) / 10


def write_plot(finder: LRFinderResult, suggestion: float, logger: TensorBoardLogger) -> None:
    """Plot the losses over the rates with the suggestion, as a PNG file in the run's folder and in TensorBoard."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), dpi=100, layout="constrained")
    axes = figure.subplots()
    finder.plot(ax=axes)
    axes.axvline(suggestion, color="tab:red", linestyle="--", label=f"suggestion {suggestion:.3g}")
    axes.set(xlabel="learning rate", ylabel="training loss, smoothed", title="Learning-rate finder")
    axes.legend()
    file = Path(logger.log_dir) / "lr_find.png"
    logger.experiment.add_figure(f"{DATA}/learning-rate finder", figure, 0)  # creates the folder
    figure.savefig(file)
    rank_zero_info(f"Plot: {file}")
