"""Optimizers that update all weights in one pass over memory."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

_DEVICES = {"cpu", "cuda"}  # that torch has fused kernels for since 2.4


def fused_optimizer(factory: Callable[..., Optimizer], weights: Sequence[nn.Parameter]) -> Optimizer:
    """The optimizer of the weights, fused where it can be and its maker leaves that open.

    Args:
        factory: A class of optimizers, or a partial one as the command line makes it.
        weights: What it optimizes.
    """
    given = getattr(factory, "keywords", {})
    can_be = "fused" in given or "fused" in inspect.signature(factory).parameters
    other_way = given.get("fused") is not None or given.get("foreach") or given.get("differentiable")
    if can_be and not other_way and {weight.device.type for weight in weights} <= _DEVICES:
        settings: dict[str, Any] = {"fused": True}
        return factory(weights, **settings)
    return factory(weights)
