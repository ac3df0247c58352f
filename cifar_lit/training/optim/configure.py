"""Create the optimizer and the schedule of a run from the configured classes."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import nn
from torch.optim import Optimizer

from cifar_lit.errors import InputError
from cifar_lit.training.optim.param_groups import MultiOptimizer, layer_decay_groups


def configure(
    optimizer: OptimizerCallable,
    lr_scheduler: LRSchedulerCallable | None,
    lr: float | None,
    layer_decay: float,
    model: nn.Module,
    trainer: Trainer,
) -> Any:
    """Return the optimizer of a model's trained weights and its schedule, as ``configure_optimizers`` does."""
    if not 0 < layer_decay <= 1:
        raise InputError(f"model.layer_decay must be above 0 and at most 1, got {layer_decay}")
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    groups = list(weights.values()) if layer_decay == 1 else layer_decay_groups(weights, layer_decay)
    created = configure_optimizer(optimizer, groups, lr)
    if lr_scheduler is None:
        return created
    return {"optimizer": created, "lr_scheduler": configure_schedule(lr_scheduler, created, lr, trainer)}


def configure_optimizer(
    factory: OptimizerCallable, weights: Sequence[nn.Parameter] | Sequence[dict[str, Any]], lr: float | None
) -> Optimizer:
    """Return the optimizer.

    Args:
        factory: The optimizer's class, without its parameters.
        weights: The parameters to optimize, or groups of them, each with a factor ``lr_scale`` of the rate.
        lr: Learning rate that replaces the optimizer's own; if there are several groups, that of the first, to which
            the others stay in proportion.
    """
    with _name_setting("model.optimizer"):
        optimizer = factory(weights)
    if lr is not None:
        first = optimizer.param_groups[0]["lr"]
        if first == 0:
            raise InputError("model.lr scales the optimizer's rates, but the first one is 0; set it above 0")
        for group in optimizer.param_groups:
            group["lr"] = lr if group["lr"] == first else lr * group["lr"] / first
    for group in optimizer.param_groups:
        group["lr"] *= group.get("lr_scale", 1)
    return optimizer


def configure_schedule(
    factory: LRSchedulerCallable, optimizer: Optimizer, lr: float | None, trainer: Trainer
) -> dict[str, Any]:
    """Return the learning-rate schedule as Lightning's ``lr_scheduler`` dict.

    Args:
        factory: The schedule's class, without its optimizer. One that takes ``total_steps`` (OneCycleLR) gets the
            run's number of steps and is updated every step, any other every epoch.
        optimizer: The optimizer.
        lr: Peak rate that replaces ``max_lr``, if the schedule takes that.
        trainer: The run's trainer.
    """
    if not _takes(factory, "total_steps"):
        with _name_setting("model.lr_scheduler"):
            scheduler = factory(optimizer)
        return {"scheduler": scheduler, "interval": "epoch", "monitor": getattr(scheduler, "monitor", "val/loss")}
    one_peak = _takes(factory, "max_lr")
    if one_peak and isinstance(optimizer, MultiOptimizer):
        raise InputError("this schedule has one peak for all weights; use TriangularLR with MultiOptimizer")
    steps = trainer.estimated_stepping_batches
    if steps == float("inf"):
        raise InputError("a schedule with total_steps needs an end: set trainer.max_epochs or trainer.max_steps")
    settings: dict[str, Any] = {"total_steps": int(steps)}
    peak = configured_peak(factory, lr)
    if one_peak and peak is not None:
        scales = [group["lr_scale"] for group in optimizer.param_groups if "lr_scale" in group]
        if scales and isinstance(peak, list):
            raise InputError("model.lr_scheduler: max_lr must be a single rate, which model.layer_decay scales")
        settings["max_lr"] = [peak * scale for scale in scales] if scales else peak
    with _name_setting("model.lr_scheduler"):
        return {"scheduler": factory(optimizer, **settings), "interval": "step"}


def configured_peak(lr_scheduler: LRSchedulerCallable | None, lr: float | None) -> float | list[float] | None:
    """Return the peak learning rate that replaces the optimizer's own; None if there is none."""
    peak: float | list[float] | None = getattr(lr_scheduler, "keywords", {}).get("max_lr")
    return peak if lr is None else lr


@contextmanager
def _name_setting(setting: str) -> Iterator[None]:
    """Turn the errors of a torch constructor into an InputError that names the setting."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise InputError(f"{setting}: {error}") from error


def check_long_enough(trainer: Trainer) -> None:
    """Raise InputError if a schedule restored from a checkpoint ends before the run does."""
    if trainer.ckpt_path is None:
        return
    steps = trainer.estimated_stepping_batches
    for config in trainer.lr_scheduler_configs:
        planned = getattr(config.scheduler, "total_steps", steps)
        if planned < steps:
            raise InputError(
                f"the checkpoint's learning-rate schedule ends after {planned} steps, but this run has {steps:.0f};"
                " a schedule cannot be stretched: keep trainer.max_epochs, or train from scratch"
            )


def _takes(factory: Callable[..., Any], name: str) -> bool:
    """Whether a class, or a partial of one, takes an argument of that name."""
    return name in getattr(factory, "keywords", {}) or name in inspect.signature(factory).parameters
