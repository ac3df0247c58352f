"""The confusion matrix, what follows from it for each class, and which classes are confused most."""

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

from callbacks.evaluation_callback import Evaluation, EvaluationCallback
from callbacks.rendering.confusion import Unit, confusion_picture
from callbacks.rendering.markdown import class_scores_table, confused_pairs_table
from cifar_lit.evaluation.confusion import class_scores, most_confused_pairs

_PAIRS = 15  # of classes, that the text names
_TITLES: dict[Unit, str] = {"counts": "number of images", "rows": "% of the images of each true class"}


class ConfusionMatrix(EvaluationCallback):
    """Shows how many images of each class were taken for which class.

    Beside the pictures there are two texts: precision, recall and F1 score of each class, and the pairs of classes that
    are confused most.

    Args:
        normalize: The numbers in the cells: ``none``: of images; ``true``: per cent of the images of the row's (the
            true) class; ``both``: a picture of each.
        every_n_epochs: Show it after every so many epochs of ``fit``, and after its last. 0 switches it off.
        png: Also save each picture as a PNG file beside the event file.
    """

    def __init__(
        self, normalize: Literal["none", "true", "both"] = "both", every_n_epochs: int = 1, png: bool = False
    ) -> None:
        super().__init__(every_n_epochs, png)
        self.normalize = normalize

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Makes the metrics for the model's classes."""
        classes = len(pl_module.class_names)
        of_each_class: dict[str, Any] = {"average": None, "validate_args": False}
        self._metrics = MetricCollection(
            {
                "counts": MulticlassConfusionMatrix(classes, validate_args=False),
                "precision": MulticlassPrecision(classes, **of_each_class),
                "recall": MulticlassRecall(classes, **of_each_class),
                "f1": MulticlassF1Score(classes, **of_each_class),
            },
            compute_groups=[["counts"], ["precision", "recall", "f1"]],
        )

    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets the evaluation before."""
        self._metrics.to(pl_module.device).reset()

    def watch(self, pl_module: LightningModule, outputs: dict[str, Any], batch: Any) -> None:
        """Counts a batch."""
        self._metrics.update(outputs["logits"], outputs["labels"])

    def merge(self, pl_module: LightningModule) -> dict[str, np.ndarray]:
        """The counts (C, C), and precision, recall and F1 (C,), over all processes."""
        return {name: value.cpu().numpy() for name, value in self._metrics.compute().items()}

    def write(self, merged: dict[str, np.ndarray], evaluation: Evaluation) -> None:
        """Writes pictures and texts."""
        names, counts = evaluation.pl_module.class_names, merged["counts"]
        right = f"{np.trace(counts):,} of {counts.sum():,} right ({np.trace(counts) / counts.sum():.2%})"
        units: dict[str, tuple[Unit, ...]] = {"none": ("counts",), "true": ("rows",), "both": ("counts", "rows")}
        for kind in units[self.normalize]:
            title = f"Confusion matrix: {_TITLES[kind]}\n{evaluation.when} · {right}"
            evaluation.add_image(f"confusion matrix/{kind}", confusion_picture(counts, names, kind, title))
        evaluation.add_text("classes", class_scores_table(class_scores(torch.from_numpy(counts)), names))
        pairs = most_confused_pairs(torch.from_numpy(counts))
        evaluation.add_text("most confused pairs", confused_pairs_table(pairs, names) if pairs else "No mistakes.")
