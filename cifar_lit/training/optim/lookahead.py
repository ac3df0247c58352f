"""Lookahead: interpolate the weights with a slow copy of them during training."""

from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from cifar_lit.errors import InputError


class Lookahead(Callback):
    """Interpolate the weights with a slow copy every few steps, and continue from the result.

    The share of the slow copy grows from 0 to ``decay ** every_n_steps``, in proportion to the run's progress raised to
    ``power``. Running statistics of norm layers are interpolated, too.

    Args:
        every_n_steps: Steps between two interpolations.
        decay: Share of the slow copy at the end of the run, per step.
        power: Exponent of the run's progress.
        start_epoch: First epoch, counted from 0, with interpolation.

    Source: Zhang et al. 2019, arXiv:1907.08610, as in K. Jordan 2024, arXiv:2404.00498, section 3.4.
    """

    def __init__(self, every_n_steps: int = 5, decay: float = 0.95, power: float = 3.0, start_epoch: int = 0) -> None:
        if every_n_steps < 1 or not 0 <= decay < 1 or power < 0 or start_epoch < 0:
            raise InputError(
                "Lookahead: every_n_steps must be at least 1, decay at least 0 and below 1, power and start_epoch at"
                f" least 0, got {every_n_steps}, {decay}, {power} and {start_epoch}"
            )
        self.every_n_steps, self.decay, self.power, self.start_epoch = every_n_steps, decay, power, start_epoch
        self._slow: list[Tensor] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Interpolate when due and after the last step."""
        if trainer.current_epoch < self.start_epoch:
            return
        step, last = trainer.global_step, trainer.estimated_stepping_batches
        if step % self.every_n_steps == 0:
            self._average(pl_module, self.decay**self.every_n_steps * (step / last) ** self.power)
        elif step == last:
            self._average(pl_module, 1.0)  # the slow weights are the result

    @torch.no_grad()
    def _average(self, pl_module: LightningModule, share: float) -> None:
        fast = list(_averaged(pl_module))
        if not self._slow:
            self._slow = [tensor.clone() for tensor in fast]
        for slow, tensor in zip(self._slow, fast, strict=True):
            slow.lerp_(tensor, 1 - share)
            tensor.copy_(slow)

    def state_dict(self) -> dict[str, Any]:
        """Return the slow weights."""
        return {"slow": self._slow}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the slow weights."""
        self._slow = state_dict["slow"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move restored slow weights to the network's device."""
        if trainer.estimated_stepping_batches == float("inf"):
            raise InputError("Lookahead needs a run with an end: set trainer.max_epochs or trainer.max_steps")
        self._slow = [tensor.to(pl_module.device) for tensor in self._slow]


def _averaged(pl_module: LightningModule) -> Iterator[Tensor]:
    """Yield all parameters, frozen or not, and the running statistics."""
    yield from pl_module.parameters()
    yield from (buffer for buffer in pl_module.buffers() if buffer.is_floating_point())
