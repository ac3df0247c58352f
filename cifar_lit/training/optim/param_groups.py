"""An optimizer, and so a learning rate, for each kind of weights."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import nn
from torch.optim import Optimizer

from cifar_lit.errors import InputError


class MultiOptimizer(Optimizer):
    """Optimizes filters, the head and the rest (biases and norms) each in its own way.

    A learning-rate schedule scales the rates of all of them.

    Args:
        params: The weights of a network.
        filters: The optimizer of weights of three and more dimensions (convolutions).
        head: The optimizer of matrices (linear layers).
        biases: The optimizer of vectors (biases, and scales and shifts of norms).
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        filters: OptimizerCallable,
        head: OptimizerCallable,
        biases: OptimizerCallable,
    ) -> None:
        weights = [weight for weight in params if weight.requires_grad]
        kinds = {
            "filters": [weight for weight in weights if weight.ndim > 2],
            "head": [weight for weight in weights if weight.ndim == 2],
            "biases": [weight for weight in weights if weight.ndim < 2],
        }
        if missing := [kind for kind, of_kind in kinds.items() if not of_kind]:
            raise InputError(f"MultiOptimizer: the network has no {' and no '.join(missing)}; take a single optimizer")
        makers = {"filters": filters, "head": head, "biases": biases}
        self.optimizers = {kind: make(kinds[kind]) for kind, make in makers.items()}
        super().__init__(weights, {})
        self._share_groups()

    def _share_groups(self) -> None:
        """Makes the parts' groups this optimizer's own, so that a schedule that sets a rate here sets it there."""
        self.param_groups = [
            group for kind, optimizer in self.optimizers.items() for group in _named(optimizer.param_groups, kind)
        ]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes a step with each; returns the closure's loss, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers.values():
            optimizer.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The states of the parts, by kind."""
        return {kind: optimizer.state_dict() for kind, optimizer in self.optimizers.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the parts."""
        for kind, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state_dict[kind])
        self._share_groups()


def _named(groups: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The groups, each told what it is, for the curves of learning rates."""
    for number, group in enumerate(groups):
        group.setdefault("name", kind if number == 0 else f"{kind}_{number}")
    return groups
