"""What Lightning does in every step and need not; ``python -m benchmarks --only '[overhead_per_step]'`` measures it."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import PassThroughProfiler, Profiler

# That Lightning calls in every step
_STEP_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
_NOTHING: AbstractContextManager = nullcontext()


def drop_idle_hooks(callback: Callback) -> None:
    """Sets the hooks that a callback does not have to None, which Lightning passes over: of a dozen callbacks with few
    hooks it would call all in every step, each within a profiler's context."""
    for name in _STEP_HOOKS:
        own = name in vars(callback)  # as LambdaCallback has its hooks
        if not own and getattr(type(callback), name) is getattr(Callback, name):
            setattr(callback, name, None)


def spare_profiling(profiler: Profiler) -> None:
    """Has Lightning's profiler of nothing do it without a generator around each of a step's thirty calls; one that was
    asked for stays as it is."""
    if type(profiler) is PassThroughProfiler:
        profiler.profile = _nothing


def _nothing(action: str) -> AbstractContextManager:
    return _NOTHING


class LeanModule(LightningModule):
    """A LightningModule that Lightning can tell quickly which hook runs."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Lightning notes the hook before and after each of its calls, thirty times a step; torch's own way asks
        whether it is a parameter, a module or a buffer."""
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)
