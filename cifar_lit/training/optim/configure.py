"""The optimizer and the schedule of a run, as Lightning takes them, from what the command line chose."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import nn
from torch.optim import Optimizer

from cifar_lit.errors import InputError
from cifar_lit.training.optim.param_groups import MultiOptimizer


def configure_optimizer(factory: OptimizerCallable, weights: Sequence[nn.Parameter], lr: float | None) -> Optimizer:
    """The optimizer of the weights.

    Args:
        factory: The optimizer's class, without its parameters.
        weights: What it optimizes.
        lr: Its rate, in place of its own; where it has several, of its first group, the others in proportion.
    """
    with _told_of("model.optimizer"):
        optimizer = factory(weights)
    if lr is not None:
        first = optimizer.param_groups[0]["lr"]
        if first == 0:
            raise InputError("model.lr scales the optimizer's rates, of which the first is 0; set that one")
        for group in optimizer.param_groups:
            group["lr"] = lr if group["lr"] == first else lr * group["lr"] / first
    return optimizer


def configure_schedule(
    factory: LRSchedulerCallable, optimizer: Optimizer, lr: float | None, trainer: Trainer
) -> dict[str, Any]:
    """The learning-rate schedule of an optimizer.

    Args:
        factory: The schedule's class, without its optimizer. One that takes ``total_steps`` (OneCycleLR) is told the
            run's number of steps and moves every step; any other moves every epoch.
        optimizer: What it schedules.
        lr: The peak, in place of ``max_lr``, of a schedule that takes that.
        trainer: The run.
    """
    if not _takes(factory, "total_steps"):
        with _told_of("model.lr_scheduler"):
            scheduler = factory(optimizer)
        return {"scheduler": scheduler, "interval": "epoch", "monitor": getattr(scheduler, "monitor", "val/loss")}
    one_peak = _takes(factory, "max_lr")
    if one_peak and isinstance(optimizer, MultiOptimizer):
        raise InputError("this schedule has one peak for all weights; with MultiOptimizer take TriangularLR")
    steps = trainer.estimated_stepping_batches
    if steps == float("inf"):
        raise InputError("a schedule with total_steps needs an end: set trainer.max_epochs or trainer.max_steps")
    settings: dict[str, Any] = {"total_steps": int(steps)}
    if lr is not None and one_peak:
        settings["max_lr"] = lr
    with _told_of("model.lr_scheduler"):
        return {"scheduler": factory(optimizer, **settings), "interval": "step"}


@contextmanager
def _told_of(setting: str) -> Iterator[None]:
    """Names the setting whose values a class of torch's refuses."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise InputError(f"{setting}: {error}") from error


def check_long_enough(trainer: Trainer) -> None:
    """Refuses a schedule, restored from a checkpoint, that ends before the run does.

    Raises:
        InputError: if it does.
    """
    steps = trainer.estimated_stepping_batches
    for config in trainer.lr_scheduler_configs:
        planned = getattr(config.scheduler, "total_steps", steps)
        if planned < steps:
            raise InputError(
                f"the checkpoint's learning-rate schedule ends after {planned} steps, but this run has {steps:.0f};"
                " a schedule cannot be stretched: keep trainer.max_epochs, or train anew"
            )


def _takes(factory: Callable[..., Any], name: str) -> bool:
    """Whether a class, or a partial one as the command line makes it, takes an argument of that name."""
    return name in getattr(factory, "keywords", {}) or name in inspect.signature(factory).parameters
