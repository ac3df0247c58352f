"""Sums that become the loss and the accuracy of an epoch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, distributed
from torchmetrics import Metric


class LossAndAccuracy(Metric):
    """Mean loss and accuracy over samples, summed over batches and processes.

    Only sums are kept, as tensors on the device: adding a batch never waits for the device, and processes with unequal
    shares of the data give the same result as one process.
    """

    full_state_update = False
    loss_sum: Tensor
    correct: Tensor
    samples: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("loss_sum", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("correct", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("samples", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, losses: Tensor, correct: Tensor, samples: Tensor) -> None:
        """Adds batches.

        Args:
            losses: float (B,), the mean loss of each batch.
            correct: int64 (B,), how many of each were classified rightly.
            samples: int64 (B,), how many are in each.
        """
        self.loss_sum += (losses * samples).sum()
        self.correct += correct.sum()
        self.samples += samples.sum()

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean loss and accuracy, scalars in float32 (NaN before any sample)."""
        return self.loss_sum / self.samples, self.correct / self.samples

    def sums(self) -> dict[str, Tensor]:
        """This process's sums, on the CPU."""
        return {name: getattr(self, name).detach().cpu().clone() for name in self.metric_state}

    def load(self, sums: Mapping[str, Tensor]) -> None:
        """Goes on from these sums."""
        for name, value in sums.items():
            getattr(self, name).copy_(value)


class RecentBatches:
    """The losses and right answers of batches, kept until they are wanted together.

    Adding a batch costs two small operations, where a metric's update costs twenty, which in a step of a small network
    is most of the time; and nothing waits for the device.
    """

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._losses: list[Tensor] = []
        self._correct: list[Tensor] = []
        self._samples: list[int] = []

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: int, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch.

        Args:
            step: The step that it was seen in.
            loss: The mean loss of the batch, a scalar.
            logits: float (N, classes).
            labels: int64 (N,), or float (N, classes) where images were mixed: then the heaviest label counts.
        """
        if labels.ndim == 2:
            labels = labels.argmax(1)
        self._steps.append(step)
        self._losses.append(loss.detach())
        self._correct.append((logits.argmax(1) == labels).sum())
        self._samples.append(len(logits))

    def take(self) -> tuple[Tensor, Tensor, Tensor]:
        """What LossAndAccuracy takes of all batches since the last time, of which there must be some."""
        losses, correct = torch.stack(self._losses).float(), torch.stack(self._correct)
        samples = torch.tensor(self._samples).to(losses.device, non_blocking=True)
        self._losses, self._correct, self._samples, self._steps = [], [], [], []
        return losses, correct, samples

    def state_dict(self) -> dict[str, Any]:
        """The batches, on the CPU."""
        return {
            "steps": list(self._steps),
            "samples": list(self._samples),
            "losses": [loss.cpu() for loss in self._losses],
            "correct": [correct.cpu() for correct in self._correct],
        }

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Goes on from these batches."""
        self._steps, self._samples = list(state["steps"]), list(state["samples"])
        self._losses = [loss.to(device) for loss in state["losses"]]
        self._correct = [correct.to(device) for correct in state["correct"]]

    def first_broken(self) -> int | None:
        """The first step whose loss is not finite, of those not yet taken; waits for the device."""
        if not self._losses:
            return None
        broken = (~torch.stack(self._losses).isfinite()).nonzero()
        return self._steps[int(broken[0])] if len(broken) else None


def of_each_process(value: Any) -> list[Any]:
    """The values of all processes, by their numbers, in all of them."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values
