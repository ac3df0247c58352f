"""Sums that become the loss and the accuracy of an epoch."""

import torch
from torch import Tensor
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

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch.

        Args:
            loss: The mean loss of the batch, a scalar.
            logits: float (N, classes).
            labels: int64 (N,), or float (N, classes) where images were mixed: then the heaviest label counts.
        """
        if labels.ndim == 2:
            labels = labels.argmax(1)
        self.loss_sum += loss.detach() * len(logits)
        self.correct += (logits.argmax(1) == labels).sum()
        self.samples += len(logits)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean loss and accuracy, scalars in float32 (NaN before any sample)."""
        return self.loss_sum / self.samples, self.correct / self.samples
