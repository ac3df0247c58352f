"""Access to the run's TensorBoard writer, for pictures and texts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def summary_writer(trainer: Trainer) -> "SummaryWriter | None":
    """Return the run's TensorBoard writer; None on ranks other than 0 or without a TensorBoard logger."""
    if trainer.is_global_zero:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                return logger.experiment
    return None


def writer_unless_resumed(trainer: Trainer) -> "SummaryWriter | None":
    """Return ``summary_writer``; None if the run was resumed, since one-time entries exist already."""
    resumed = any(getattr(logger, "purge_step", None) is not None for logger in trainer.loggers)
    return None if resumed else summary_writer(trainer)


@contextmanager
def warn_on_error(name: str) -> Iterator[None]:
    """Turn an error into a warning, so that a failed plot does not end the run."""
    try:
        yield
    except Exception as error:
        rank_zero_warn(f"{name} wrote nothing: {type(error).__name__}: {error}")
