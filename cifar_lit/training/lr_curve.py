"""What a learning-rate search found: the curve of losses over rates, the rate to take, and a picture of both."""

from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info

from cifar_lit.errors import InputError
from cifar_lit.training.lightning_compat import LRFinderResult


def tenth_of_minimum(finder: LRFinderResult) -> float:
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


def write_plot(finder: LRFinderResult, suggestion: float, logger: TensorBoardLogger) -> None:
    """Draws the losses over the rates, with the suggested one, into the run's folder and TensorBoard."""
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
