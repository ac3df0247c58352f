"""Where callbacks write what is no number: TensorBoard's image and text tabs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def summary_writer(trainer: Trainer) -> "SummaryWriter | None":
    """The run's TensorBoard writer; None on other ranks than 0, and where there is no TensorBoard logger."""
    if trainer.is_global_zero:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                return logger.experiment
    return None


def writer_at_start(trainer: Trainer) -> "SummaryWriter | None":
    """The same, for what is written once; None where the run goes on in its folder, which has it already."""
    goes_on = any(getattr(logger, "purge_step", None) is not None for logger in trainer.loggers)
    return None if goes_on else summary_writer(trainer)


@contextmanager
def harmless(who: str) -> Iterator[None]:
    """Has an error in drawing or writing cost the picture, and not the run."""
    try:
        yield
    except Exception as error:
        rank_zero_warn(f"{who} wrote nothing: {type(error).__name__}: {error}")
