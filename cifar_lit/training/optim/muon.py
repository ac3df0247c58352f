"""Muon for convolutions: momentum with orthogonalized updates."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from cifar_lit.errors import InputError
from cifar_lit.training.precision import multiplies_bfloat16

# Quintic Newton-Schulz polynomial with the steepest slope at 0 that still converges (K. Jordan, see ConvMuon)
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class ConvMuon(Optimizer):
    """Nesterov momentum with orthogonalized updates, for weights with two or more dimensions.

    Unlike torch.optim.Muon, which takes matrices, it flattens convolution filters to one row per filter. It also
    rescales each weight tensor to a root mean square filter norm of 1 before its step, which a following norm layer
    makes irrelevant, so that the step size stays in proportion to the weights.

    Args:
        params: The weights.
        lr: Step size, relative to filters of norm 1.
        momentum: Momentum factor.
        ns_steps: Number of Newton-Schulz iterations; more make the update more nearly orthogonal.
        keep_norm: Whether to rescale the weights before each step.

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
                f"ConvMuon takes weights with two or more dimensions only, got shapes {sorted(shapes)}; MultiOptimizer"
                " passes it the filters alone"
            )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step; return the loss of the closure, if there is one."""
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
    """Return an approximation of the nearest semi-orthogonal matrix, with singular values of about 0.5 to 1.5.

    Args:
        matrix: float (M, N).
        steps: Number of Newton-Schulz iterations; each scales small singular values up by about 3.4.

    Returns:
        (M, N), bfloat16 if the hardware multiplies it natively, else float32.

    Source: see ConvMuon.
    """
    a, b, c = _COEFFICIENTS
    x = matrix.bfloat16() if multiplies_bfloat16(matrix.device) else matrix.float()
    x = x / (x.norm() + 1e-7)  # the largest singular value is at most 1
    tall = len(matrix) > matrix.shape[1]
    if tall:
        x = x.T
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x
