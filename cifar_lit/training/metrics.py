"""Loss and accuracy as torchmetrics, and their exchange between processes."""

from typing import Any

import torch
from torch import Tensor, distributed
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score


class MeanLoss(Metric):
    """Mean loss over samples; NaN if any batch's loss is.

    torchmetrics' MeanMetric either drops NaN, or (1.9, ``nan_strategy="disable"``) ignores the weights of batches.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, loss: Tensor, count: int) -> None:
        """Add the mean loss of a batch with ``count`` samples."""
        self.total += loss * count
        self.count += count

    def compute(self) -> Tensor:
        """Return the mean, a float32 scalar."""
        return self.total / self.count


def loss_and_accuracy(num_classes: int, averages: bool = False) -> MetricCollection:
    """Return the metrics ``loss`` and ``accuracy``, whose states are in their state dict.

    Args:
        num_classes: The number of classes.
        averages: Add the averages over classes ``macro_f1`` and ``balanced_accuracy`` (the mean recall), and the
            ``recall`` of each class, float (C,).
    """
    accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
    metrics: dict[str, Metric | MetricCollection] = {"loss": MeanLoss(), "accuracy": accuracy}
    if averages:
        metrics["macro_f1"] = MulticlassF1Score(num_classes, average="macro", validate_args=False)
        metrics["balanced_accuracy"] = MulticlassAccuracy(num_classes, average="macro", validate_args=False)
        metrics["recall"] = MulticlassAccuracy(num_classes, average=None, validate_args=False)
    collection = MetricCollection(metrics, compute_groups=False)
    collection.persistent()
    return collection


def gather_objects(value: Any) -> list[Any]:
    """Return the values of all processes in the order of their ranks; called in all of them."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values
