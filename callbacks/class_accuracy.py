"""Accuracy of each class, as one chart."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from callbacks.evaluation_callback import EvaluatedModule, EvaluationCallback, EvaluationWriter
from callbacks.tensorboard import warn_on_error, writer_unless_resumed

_TAG = "class_accuracy"


class ClassAccuracy(EvaluationCallback):
    """Log the accuracy of each class after each validation and test.

    TensorBoard shows one chart per class under Scalars, and all classes in one chart under Custom Scalars.

    Args:
        every_n_epochs: Log every n epochs of ``fit`` and after the last one; 0 disables it.
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        super().__init__(every_n_epochs)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Create the metric."""
        self._metric = MulticlassAccuracy(len(pl_module.class_names), average=None, validate_args=False)

    @warn_on_error("ClassAccuracy")
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lay out the chart of all classes."""
        writer = writer_unless_resumed(trainer)
        if writer is not None:
            writer.add_custom_scalars({"accuracy": {"of each class": ["Multiline", [f"{_TAG}/.*"]]}})

    def reset(self, trainer: Trainer, pl_module: EvaluatedModule) -> None:
        """Reset the metric."""
        self._metric.to(pl_module.device).reset()

    def update(self, pl_module: EvaluatedModule, outputs: dict[str, Any], batch: Any) -> None:
        """Add a batch to the metric."""
        self._metric.update(outputs["logits"], outputs["labels"])

    def compute(self, pl_module: EvaluatedModule) -> Tensor:
        """Return the accuracies (C,) over all processes."""
        return self._metric.compute()

    def write(self, results: Tensor, writer: EvaluationWriter) -> None:
        """Log the accuracies."""
        names = (f"{_TAG}/{name}" for name in writer.pl_module.class_names)
        writer.add_scalars(dict(zip(names, results.tolist(), strict=True)))
