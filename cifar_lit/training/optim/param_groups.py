"""Groups of parameters with their own optimizer or learning rate."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import nn
from torch.optim import Optimizer

from cifar_lit.errors import InputError


class MultiOptimizer(Optimizer):
    """Optimize convolution filters, the head and everything else with separate optimizers.

    A learning-rate schedule scales the rates of all of them.

    Args:
        params: The weights of a network.
        filters: Optimizer of weights with three or more dimensions (convolutions).
        head: Optimizer of matrices (linear layers).
        biases: Optimizer of vectors (biases and norm layers).
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        filters: OptimizerCallable,
        head: OptimizerCallable,
        biases: OptimizerCallable,
    ) -> None:
        given = list(params)
        if any(isinstance(one, dict) for one in given):
            raise InputError("MultiOptimizer sets its own rates; set model.layer_decay to 1, or use a single optimizer")
        weights = [weight for weight in given if weight.requires_grad]
        kinds = {
            "filters": [weight for weight in weights if weight.ndim > 2],
            "head": [weight for weight in weights if weight.ndim == 2],
            "biases": [weight for weight in weights if weight.ndim < 2],
        }
        if missing := [kind for kind, of_kind in kinds.items() if not of_kind]:
            raise InputError(f"MultiOptimizer: the network has no {' and no '.join(missing)}; use a single optimizer")
        makers = {"filters": filters, "head": head, "biases": biases}
        # With names for LearningRateMonitor
        self.optimizers = {kind: make([{"params": kinds[kind], "name": kind}]) for kind, make in makers.items()}
        super().__init__(weights, {})
        self._share_groups()

    def _share_groups(self) -> None:
        """Share the groups of the inner optimizers, so that a schedule sets their rates."""
        self.param_groups = [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step with each; return the loss of the closure, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers.values():
            optimizer.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the inner optimizers by kind."""
        return {kind: optimizer.state_dict() for kind, optimizer in self.optimizers.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the inner optimizers."""
        for kind, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state_dict[kind])
        self._share_groups()


def layer_decay_groups(weights: Mapping[str, nn.Parameter], decay: float) -> list[dict[str, Any]]:
    """Group weights by layer or block, in the order of the network, each with a smaller learning rate than the next.

    A block ends at the first part of a weight's name that ends with a digit (``layer1`` of ``layer1.0.conv1.weight``,
    ``blocks.3`` of ``blocks.3.attn.qkv.weight``); without a digit, it is the layer (``norm`` of ``norm.weight``).

    Args:
        weights: The weights by name.
        decay: Factor of the rate from each block to the one before; the last has a factor of 1.

    Returns:
        Groups for an optimizer, each with its ``params``, ``lr_scale`` and ``name``.

    Source: Clark et al. 2020, arXiv:2003.10555; as in timm's ``param_groups_layer_decay``.
    """
    blocks: dict[str, list[nn.Parameter]] = {}
    for name, weight in weights.items():
        *parts, own = name.removeprefix("model.net.").split(".")
        parts = parts or [own]
        end = next((number for number, part in enumerate(parts) if part[-1].isdigit()), len(parts))
        blocks.setdefault(".".join(parts[: end + 1]), []).append(weight)
    return [
        {"params": params, "lr_scale": decay ** (len(blocks) - number), "name": name}
        for number, (name, params) in enumerate(blocks.items(), start=1)
    ]
