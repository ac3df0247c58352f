"""Accuracy of each class, a curve for each, in one chart."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from callbacks.evaluation_callback import Evaluation, EvaluationCallback
from callbacks.tensorboard import harmless, writer_at_start

_TAG = "class_accuracy"


class ClassAccuracy(EvaluationCallback):
    """Logs the share of each class's images that is classified rightly, after each validation and test.

    TensorBoard shows one chart for each class under Scalars, and all of them in one under Custom Scalars.

    Args:
        every_n_epochs: Log after every so many epochs of ``fit``, and after its last. 0 switches it off.
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        super().__init__(every_n_epochs)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Makes the metric for the model's classes."""
        self._metric = MulticlassAccuracy(len(pl_module.class_names), average=None, validate_args=False)

    @harmless("ClassAccuracy")
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lays out the chart of all classes."""
        writer = writer_at_start(trainer)
        if writer is not None:
            writer.add_custom_scalars({"accuracy": {"of each class": ["Multiline", [f"{_TAG}/.*"]]}})

    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets the evaluation before."""
        self._metric.to(pl_module.device).reset()

    def watch(self, pl_module: LightningModule, outputs: dict[str, Any], batch: Any) -> None:
        """Counts a batch."""
        self._metric.update(outputs["logits"], outputs["labels"])

    def merge(self, pl_module: LightningModule) -> Tensor:
        """The accuracies (C,) over all processes."""
        return self._metric.compute()

    def write(self, merged: Tensor, evaluation: Evaluation) -> None:
        """Logs the accuracies."""
        names = (f"{_TAG}/{name}" for name in evaluation.pl_module.class_names)
        evaluation.add_scalars(dict(zip(names, merged.tolist(), strict=True)))
