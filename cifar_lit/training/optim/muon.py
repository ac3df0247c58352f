"""Muon: steps that change a filter bank by the same amount in every direction."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from cifar_lit.errors import InputError
from cifar_lit.training.precision import multiplies_bfloat16

# Of the quintic polynomial whose slope at 0 is the steepest that still converges (K. Jordan, the post named below)
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class ConvMuon(Optimizer):
    """Momentum, whose update is made orthogonal before it is taken; for weights of two and more dimensions.

    torch.optim.Muon does this for matrices (and scales the step of tall ones); this one takes convolutions' filters,
    one row a filter, and keeps the norm of each bank of them, which a norm layer makes meaningless, so that the step
    size stays in proportion to it.

    Args:
        params: The weights.
        lr: Step size, in proportion to the weights, which have a root mean square norm of 1 a filter.
        momentum: Of the gradients' average; Nesterov's.
        ns_steps: Newton-Schulz iterations; more make the update more nearly orthogonal.
        keep_norm: Whether to scale each bank of filters to that norm before its step.

    Source: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024),
    https://kellerjordan.github.io/posts/muon; the norm as in airbench94_muon.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.24,
        momentum: float = 0.6,
        ns_steps: int = 3,
        keep_norm: bool = True,
    ) -> None:
        if lr < 0 or not 0 <= momentum < 1 or ns_steps < 1:
            raise InputError(
                "ConvMuon: lr must be at least 0, momentum at least 0 and below 1, ns_steps at least 1,"
                f" got {lr}, {momentum} and {ns_steps}"
            )
        super().__init__(params, {"lr": lr, "momentum": momentum, "ns_steps": ns_steps, "keep_norm": keep_norm})
        shapes = {tuple(weight.shape) for group in self.param_groups for weight in group["params"] if weight.ndim < 2}
        if shapes:
            raise InputError(
                f"ConvMuon takes weights of two and more dimensions only, got shapes {sorted(shapes)}; MultiOptimizer"
                " gives it the filters alone"
            )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes a step; returns the closure's loss, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(weight)
                average = state["momentum_buffer"].mul_(group["momentum"]).add_(weight.grad)
                update = orthogonal(weight.grad.add(average, alpha=group["momentum"]).flatten(1), group["ns_steps"])
                if group["keep_norm"]:
                    weight.mul_(len(weight) ** 0.5 / weight.norm().clamp(min=1e-7))
                weight.add_(update.view(weight.shape), alpha=-group["lr"])
        return loss


def orthogonal(matrix: Tensor, steps: int) -> Tensor:
    """The nearest matrix with orthonormal rows or columns, roughly: all singular values are between 0.5 and 1.5 or so.

    Args:
        matrix: float (M, N).
        steps: Newton-Schulz iterations, each of which brings small singular values up about 3.4 times.

    Returns:
        float (M, N), in bfloat16 where the hardware multiplies that.

    Source: see ConvMuon.
    """
    a, b, c = _COEFFICIENTS
    found = matrix.bfloat16() if multiplies_bfloat16(matrix.device) else matrix.float()
    found = found / (found.norm() + 1e-7)  # the largest singular value is at most 1
    tall = len(matrix) > matrix.shape[1]
    if tall:
        found = found.T
    for _ in range(steps):
        gram = found @ found.T
        found = a * found + (b * gram + c * gram @ gram) @ found
    return found.T if tall else found
