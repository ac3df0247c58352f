"""Confusion matrix, scores of each class, and the most confused pairs of classes."""

from typing import Literal

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from callbacks.evaluation_callback import EvaluationWriter, MetricCallback
from callbacks.rendering.confusion import Unit, confusion_picture
from callbacks.rendering.markdown import class_scores_table, confused_pairs_table
from cifar_lit.evaluation.class_scores import class_scores, most_confused_pairs
from cifar_lit.tensorboard_tags import RESULTS

_TITLES: dict[Unit, str] = {"counts": "number of images", "rows": "% of the images of each true class"}


class ConfusionMatrix(MetricCallback):
    """Show the confusion matrix, with each class's precision, recall and F1 score and the most confused pairs.

    Args:
        normalize: Numbers in the cells: ``none``: number of images; ``true``: percentage of the images of the true
            class (the row); ``both``: one picture of each.
        every_n_epochs: Show it every n epochs of ``fit`` and after the last one; 0 disables it.
        png: Also save each picture as a PNG file next to the event file.
    """

    def __init__(
        self, normalize: Literal["none", "true", "both"] = "both", every_n_epochs: int = 1, png: bool = False
    ) -> None:
        super().__init__(every_n_epochs, png)
        self.normalize = normalize

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Create the metric."""
        self.metric = MulticlassConfusionMatrix(len(pl_module.class_names), validate_args=False)

    def write(self, results: Tensor, writer: EvaluationWriter) -> None:
        """Write the pictures and texts of the counts, int64 (C, C)."""
        results = results.cpu()
        names, correct, images = writer.pl_module.class_names, int(results.trace()), int(results.sum())
        summary = f"{writer.subtitle} · {correct:,} of {images:,} correct ({correct / images:.2%})"
        units: dict[str, tuple[Unit, ...]] = {"none": ("counts",), "true": ("rows",), "both": ("counts", "rows")}
        for kind in units[self.normalize]:
            title = f"Confusion matrix: {_TITLES[kind]}\n{summary}"
            writer.add_image(
                RESULTS, f"confusion matrix {kind}", confusion_picture(results.numpy(), names, kind, title)
            )
        writer.add_text(RESULTS, "classes", class_scores_table(class_scores(results), names))
        pairs = most_confused_pairs(results)
        table = confused_pairs_table(pairs, names) if pairs else "No mistakes."
        writer.add_text(RESULTS, "most confused pairs", table)
