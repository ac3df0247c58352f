"""Accuracy of each class, a curve for each, in one chart."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torchmetrics.classification import MulticlassAccuracy

from callbacks.tensorboard import summary_writer

_TAG = "class_accuracy"


class ClassAccuracy(Callback):
    """Logs the share of each class's images that is classified rightly, after each validation and test.

    TensorBoard shows one chart for each class under Scalars, and all of them in one under Custom Scalars.
    """

    _metric: MulticlassAccuracy

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Makes the metric for the model's classes."""
        self._metric = MulticlassAccuracy(len(pl_module.class_names), average=None, validate_args=False)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lays out the chart of all classes."""
        writer = summary_writer(trainer)
        if writer is not None:
            writer.add_custom_scalars({"accuracy": {"of each class": ["Multiline", [f"{_TAG}/.*"]]}})

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        """Adds a batch."""
        if not trainer.sanity_checking:
            self._metric.to(pl_module.device).update(outputs["logits"], outputs["labels"])

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        """Adds a batch."""
        self.on_validation_batch_end(trainer, pl_module, outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the epoch's accuracies."""
        if not trainer.sanity_checking:
            self._log(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the test's accuracies."""
        self._log(trainer, pl_module, "test")

    def _log(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        accuracies = self._metric.compute().tolist()
        self._metric.reset()
        names = (f"{split}/{_TAG}/{name}" for name in pl_module.class_names)
        metrics = dict(zip(names, accuracies, strict=True))
        for logger in trainer.loggers:
            logger.log_metrics(metrics, pl_module.trained_step)
