"""Learning-rate schedules beyond those of torch."""

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cifar_lit.errors import InputError


class TriangularLR(LRScheduler):
    """Scale the rate of every group linearly from ``start`` up to 1, then down to ``end``.

    Unlike OneCycleLR, it does not change the momentum, and each group keeps its own peak rate.

    Args:
        optimizer: The optimizer.
        total_steps: Number of steps of the run; set by the classifier.
        start: Factor at the first step.
        peak: Position of the peak as a share of the run; 0 for a decreasing schedule.
        end: Factor after the last step.

    Source: L. Smith 2015, arXiv:1506.01186; the defaults are airbench94's (K. Jordan 2024, arXiv:2404.00498).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int | None = None,
        start: float = 0.2,
        peak: float = 0.23,
        end: float = 0.07,
    ) -> None:
        if total_steps is None or total_steps < 1:
            raise InputError(f"TriangularLR: total_steps must be at least 1, got {total_steps}")
        if not 0 <= peak < 1 or start < 0 or end < 0:
            raise InputError(
                "TriangularLR: peak must be at least 0 and below 1, start and end at least 0,"
                f" got {peak}, {start} and {end}"
            )
        self.total_steps, self.start, self.peak, self.end = total_steps, start, peak, end
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """Return the factor at a step from 0 to ``total_steps``."""
        top = int(self.peak * self.total_steps)
        if step < top:
            return self.start + (1 - self.start) * step / top
        return 1 + (self.end - 1) * (min(step, self.total_steps) - top) / (self.total_steps - top)

    def get_lr(self) -> list[float | Tensor]:
        """Return the rate of each group at the current step."""
        return [base * self.factor(self.last_epoch) for base in self.base_lrs]
