"""Misclassified images: as a captioned grid, as a table, and as a CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from callbacks.evaluation_callback import Evaluation, EvaluationCallback
from callbacks.rendering.grid import image_grid
from callbacks.rendering.markdown import table
from callbacks.rendering.text import FAINT_INK, RIGHT_INK, WRONG_INK
from cifar_lit.evaluation.label_issues import ConfidentThresholds, is_label_issue
from cifar_lit.evaluation.top_mistakes import Mistakes, Order, TopKMistakes

DOUBT = "label may be wrong"
_ORDERS = {"confidence": "most confident first", "random": "a random choice", "loss": "least loss first"}


class MisclassifiedImages(EvaluationCallback):
    """Shows images that were misclassified: true and predicted class, confidence and index in the data set.

    They are a picture and a table in TensorBoard, and ``misclassified.csv`` (of a test: ``misclassified_test.csv``) in
    the run's folder, which holds those of the last evaluation. Another order and filters are added to these names.

    Args:
        count: How many to show; 0 shows none.
        order: ``confidence``: the most confidently wrong first; ``random``: a random choice, the same with the same
            ``seed``; ``loss``: the least loss first, that is, the near misses.
        seed: For the random choice.
        true_class: Only images of that class, by its name.
        predicted_class: Only images that were taken for that class, by its name.
        every_n_epochs: Show them after every so many epochs of ``fit``, and after its last. 0 switches it off.
        png: Also save each picture as a PNG file beside the event file.
    """

    def __init__(
        self,
        count: int = 20,
        order: Order = "confidence",
        seed: int = 0,
        true_class: str | None = None,
        predicted_class: str | None = None,
        every_n_epochs: int = 1,
        png: bool = False,
    ) -> None:
        super().__init__(every_n_epochs, png)
        if count < 0:
            raise MisconfigurationException(f"MisclassifiedImages: count must be at least 0, got {count}")
        self.count, self.order, self.seed = count, order, seed
        self.true_class, self.predicted_class = true_class, predicted_class
        self._thresholds: ConfidentThresholds | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks the names of the classes."""
        if self.count == 0:
            rank_zero_info("MisclassifiedImages shows nothing: count is 0.")
        for name in (self.true_class, self.predicted_class):
            if name is not None and name not in pl_module.class_names:
                raise MisconfigurationException(
                    f"MisclassifiedImages: there is no class {name!r}; the classes are"
                    f" {', '.join(pl_module.class_names)}"
                )

    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets the mistakes of the evaluation before."""
        names = pl_module.class_names
        true, predicted = (
            None if name is None else names.index(name) for name in (self.true_class, self.predicted_class)
        )
        self._keeper = TopKMistakes(self.count, self.order, self.seed, true, predicted)
        if self._thresholds is None:
            self._thresholds = ConfidentThresholds(len(names))
        device = pl_module.device if pl_module.device.type != "mps" else torch.device("cpu")  # that has no float64
        self._thresholds.to(device).reset()

    def watch(self, pl_module: LightningModule, outputs: dict[str, Any], batch: Any) -> None:
        """Keeps a batch's mistakes, as far as they come before those that are kept."""
        assert self._thresholds is not None
        device = self._thresholds.device
        self._thresholds.update(outputs["logits"].softmax(1).to(device), outputs["labels"].to(device))
        self._keeper.update(batch.pixels, outputs["logits"], outputs["labels"], outputs["indices"])

    def merge(self, pl_module: LightningModule) -> tuple[Mistakes, Tensor]:
        """The mistakes of all processes, and how sure the network is of each class."""
        assert self._thresholds is not None
        return self._keeper.gathered(pl_module.all_gather), self._thresholds.compute().cpu()

    def write(self, merged: tuple[Mistakes, Tensor], evaluation: Evaluation) -> None:
        """Writes the picture, the table and the CSV."""
        if self.count == 0:
            return
        mistakes, thresholds = merged
        rows = _rows(mistakes, thresholds, evaluation)
        title = self._title(mistakes, evaluation)
        captions = [row.caption() for row in rows]
        pixels = mistakes.pixels.permute(0, 2, 3, 1).numpy()
        colors = (RIGHT_INK, WRONG_INK, FAINT_INK)
        evaluation.add_image(self._name, image_grid(pixels, captions, 5, 128, title, colors))
        header = ["index", "true class", "predicted class", "confidence", "loss", ""]
        cells = [
            [str(row.row), row.true, row.said, f"{row.confidence:.1%}", f"{row.loss:.3f}", DOUBT if row.doubt else ""]
            for row in rows
        ]
        evaluation.add_text(self._name, f"{title.splitlines()[-1]}\n\n{table(header, cells)}")
        if evaluation.folder is not None:
            suffix = "" if evaluation.split == "val" else f"_{evaluation.split}"
            _write_csv(evaluation.folder / f"{self._name.replace(' ', '_')}{suffix}.csv", evaluation.step, rows)

    @property
    def _name(self) -> str:
        """Of picture, table and file: another one for another choice, so that several stand side by side."""
        order = [] if self.order == "confidence" else [self.order]
        return " ".join(["misclassified", *order, *filter(None, (self.true_class, self.predicted_class))])

    def _title(self, mistakes: Mistakes, evaluation: Evaluation) -> str:
        filters = [f"images of {self.true_class}"] if self.true_class else []
        filters += [f"taken for {self.predicted_class}"] if self.predicted_class else []
        heading = ", ".join(["Misclassified", *filters]) + f": {_ORDERS[self.order]}"
        count = f"{len(mistakes.labels)} of {mistakes.errors:,} errors in {mistakes.images:,} images"
        return f"{heading}\n{evaluation.when} · {count}"


class _Row(NamedTuple):
    """A mistake: its place in the data, and file there; true and predicted class; whether the label may be wrong."""

    row: int
    file: str
    true: str
    said: str
    confidence: float
    loss: float
    doubt: bool

    def caption(self) -> str:
        """What stands below its picture."""
        lines = [self.true, f"→ {self.said}", f"{self.confidence:.1%}", f"#{self.row}"]
        return "\n".join([*lines, "label may", "be wrong"] if self.doubt else lines)


def _rows(mistakes: Mistakes, thresholds: Tensor, evaluation: Evaluation) -> list[_Row]:
    names = evaluation.pl_module.class_names
    doubtful = is_label_issue(mistakes.logits.softmax(1), mistakes.labels, thresholds)
    columns = (mistakes.indices, mistakes.labels, mistakes.predictions, mistakes.confidences, mistakes.losses, doubtful)
    return [
        _Row(index, evaluation.file_of(index), names[true], names[said], confidence, loss, doubt)
        for index, true, said, confidence, loss, doubt in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _write_csv(path: Path, step: int, rows: Sequence[_Row]) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as opened:
        writer = csv.writer(opened)
        writer.writerow(["step", "index", "file", "true", "predicted", "confidence", "loss", "label_may_be_wrong"])
        writer.writerows([step, *row[:4], f"{row.confidence:.6f}", f"{row.loss:.6f}", int(row.doubt)] for row in rows)
