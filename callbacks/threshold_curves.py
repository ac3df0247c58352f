"""ROC and precision-recall curves."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer

from callbacks.evaluation_callback import EvaluatedModule, EvaluationWriter, MetricCallback
from callbacks.rendering.threshold_curves import threshold_curve_charts, thresholds_table
from cifar_lit.evaluation.threshold_curves import ClassCurves, ThresholdCurves
from cifar_lit.tensorboard_tags import RESULTS


class ThresholdCurvesPlot(MetricCallback):
    """Show the ROC and precision-recall curves of each class, and the thresholds with the highest F1 scores.

    The pictures show the ten classes with the smallest areas if there are more.

    Args:
        every_n_epochs: Show them every n epochs of ``fit`` and after the last one; 0 disables it.
        png: Also save each picture as a PNG file next to the event file.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Create the metric."""
        self.metric = ThresholdCurves(len(pl_module.class_names))

    def update(self, pl_module: EvaluatedModule, outputs: dict[str, Any], batch: Any) -> None:
        """Add a batch to the metric."""
        self.metric.update(outputs["logits"].softmax(1), outputs["labels"])

    def write(self, results: list[ClassCurves], writer: EvaluationWriter) -> None:
        """Write the pictures and the table."""
        names = writer.pl_module.class_names
        for name, picture in threshold_curve_charts(names, results, writer.subtitle).items():
            writer.add_image(RESULTS, f"curves of each class, {name}", picture)
        writer.add_text(RESULTS, "thresholds", thresholds_table(results, names))
