"""Confusion matrix, scores of each class, and the most confused pairs of classes."""

from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

from callbacks.evaluation_callback import EvaluatedModule, EvaluationCallback, EvaluationWriter
from callbacks.rendering.confusion import Unit, confusion_picture
from callbacks.rendering.markdown import class_scores_table, confused_pairs_table
from cifar_lit.evaluation.confusion import class_scores, most_confused_pairs

_TITLES: dict[Unit, str] = {"counts": "number of images", "rows": "% of the images of each true class"}


class ConfusionMatrix(EvaluationCallback):
    """Show the confusion matrix, with each class's precision, recall and F1 score and the most confused pairs.

    Args:
        normalize: Numbers in the cells: ``none``: number of images; ``true``: percentage of the images of the true
            class (the row); ``both``: one picture of each.
        every_n_epochs: Show it every so many epochs of ``fit`` and after the last one. 0 switches it off.
        png: Also save each picture as a PNG file next to the event file.
    """

    def __init__(
        self, normalize: Literal["none", "true", "both"] = "both", every_n_epochs: int = 1, png: bool = False
    ) -> None:
        super().__init__(every_n_epochs, png)
        self.normalize = normalize

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Create the metrics."""
        classes = len(pl_module.class_names)
        per_class: dict[str, Any] = {"average": None, "validate_args": False}
        self._metrics = MetricCollection(
            {
                "counts": MulticlassConfusionMatrix(classes, validate_args=False),
                "precision": MulticlassPrecision(classes, **per_class),
                "recall": MulticlassRecall(classes, **per_class),
                "f1": MulticlassF1Score(classes, **per_class),
            },
            compute_groups=[["counts"], ["precision", "recall", "f1"]],
        )

    def reset(self, trainer: Trainer, pl_module: EvaluatedModule) -> None:
        """Reset the metrics."""
        self._metrics.to(pl_module.device).reset()

    def update(self, pl_module: EvaluatedModule, outputs: dict[str, Any], batch: Any) -> None:
        """Add a batch to the metrics."""
        self._metrics.update(outputs["logits"], outputs["labels"])

    def compute(self, pl_module: EvaluatedModule) -> dict[str, np.ndarray]:
        """Return the counts (C, C), and precision, recall and F1 (C,), over all processes."""
        return {name: value.cpu().numpy() for name, value in self._metrics.compute().items()}

    def write(self, results: dict[str, np.ndarray], writer: EvaluationWriter) -> None:
        """Write the pictures and texts."""
        names, counts = writer.pl_module.class_names, results["counts"]
        correct = f"{np.trace(counts):,} of {counts.sum():,} correct ({np.trace(counts) / counts.sum():.2%})"
        units: dict[str, tuple[Unit, ...]] = {"none": ("counts",), "true": ("rows",), "both": ("counts", "rows")}
        for kind in units[self.normalize]:
            title = f"Confusion matrix: {_TITLES[kind]}\n{writer.subtitle} · {correct}"
            writer.add_image(f"confusion matrix/{kind}", confusion_picture(counts, names, kind, title))
        writer.add_text("classes", class_scores_table(class_scores(torch.from_numpy(counts)), names))
        pairs = most_confused_pairs(torch.from_numpy(counts))
        writer.add_text("most confused pairs", confused_pairs_table(pairs, names) if pairs else "No mistakes.")
