"""The confusion matrix, what follows from it for each class, and which classes are confused most."""

from typing import Any, Literal

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

from callbacks.evaluation import Evaluation, EvaluationCallback
from callbacks.rendering.confusion import Shown, confusion_picture
from callbacks.tensorboard import markdown_table

_PAIRS = 15  # of classes, that the text names
_TITLES: dict[Shown, str] = {"counts": "number of images", "rows": "% of the images of each true class"}


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
        shown: tuple[Shown, ...] = {"none": ("counts",), "true": ("rows",), "both": ("counts", "rows")}[self.normalize]
        for kind in shown:
            title = f"Confusion matrix: {_TITLES[kind]}\n{evaluation.when} · {right}"
            evaluation.add_image(f"confusion matrix/{kind}", confusion_picture(counts, names, kind, title))
        rows = [
            [name, f"{images}", *(f"{merged[metric][label]:.3f}" for metric in ("precision", "recall", "f1"))]
            for label, (name, images) in enumerate(zip(names, counts.sum(1).tolist(), strict=True))
        ]
        evaluation.add_text("classes", markdown_table(["class", "images", "precision", "recall", "F1"], rows))
        evaluation.add_text("most confused pairs", pairs_table(counts, names))


def pairs_table(counts: np.ndarray, class_names: list[str]) -> str:
    """The pairs of classes that are confused most, in Markdown.

    Args:
        counts: int (C, C), images of the row's class that were taken for the column's.
        class_names: The C classes.

    >>> print(pairs_table(np.array([[7, 3], [0, 5]]), ["cat", "dog"]))
    | true class | taken for | images | share of the class |
    | --- | --- | --- | --- |
    | cat | dog | 3 | 30.0% |
    """
    mistakes = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:_PAIRS]
    rows = [
        [
            class_names[true],
            class_names[said],
            str(mistakes[true, said]),
            f"{mistakes[true, said] / counts[true].sum():.1%}",
        ]
        for true, said in zip(*np.unravel_index(order, counts.shape), strict=True)
        if mistakes[true, said] > 0
    ]
    return markdown_table(["true class", "taken for", "images", "share of the class"], rows) if rows else "No mistakes."
