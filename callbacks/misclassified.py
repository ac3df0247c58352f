"""Misclassified images as a captioned grid, a table and a CSV file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from callbacks.evaluation_callback import EvaluatedModule, EvaluationCallback, EvaluationWriter
from callbacks.rendering.fonts_and_colors import CORRECT_INK, FAINT_INK, WRONG_INK
from callbacks.rendering.grid import image_grid
from callbacks.rendering.markdown import table
from cifar_lit.csv_text import csv_text
from cifar_lit.evaluation.label_issues import Reference, ReferenceSample, find_label_issues
from cifar_lit.evaluation.top_mistakes import Mistakes, Order, TopKMistakes
from cifar_lit.safe_files import write_atomically
from cifar_lit.tensorboard_tags import MISTAKES

_LABEL_ISSUE = "label may be wrong"
_ORDERS = {"confidence": "most confident first", "random": "random choice", "loss": "lowest loss first"}


class MisclassifiedImages(EvaluationCallback):
    """Show misclassified images with true and predicted class, confidence and index in the dataset.

    Writes a picture and a table to TensorBoard, and the mistakes of the last evaluation to ``misclassified.csv`` (for
    ``test``: ``misclassified_test.csv``) in the run's folder. A non-default order and filters are added to the names.

    Args:
        count: Number of images to show; 0 shows none.
        order: ``confidence``: the most confident mistakes first; ``random``: a random choice that depends on ``seed``;
            ``loss``: the lowest loss first, that is, near misses.
        seed: Seed of the random choice.
        true_class: Show only images of this class.
        predicted_class: Show only images that were predicted as this class.
        every_n_epochs: Show them every n epochs of ``fit`` and after the last one; 0 disables it.
        png: Also save each picture as a PNG file next to the event file.
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
        self._sample = ReferenceSample()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raise if a class does not exist."""
        if self.count == 0:
            rank_zero_info("MisclassifiedImages shows nothing: count is 0.")
        for name in (self.true_class, self.predicted_class):
            if name is not None and name not in pl_module.class_names:
                raise MisconfigurationException(
                    f"MisclassifiedImages: unknown class {name!r}; choose from {', '.join(pl_module.class_names)}"
                )

    def reset(self, trainer: Trainer, pl_module: EvaluatedModule) -> None:
        """Forget the previous mistakes."""
        names = pl_module.class_names
        true, predicted = (
            None if name is None else names.index(name) for name in (self.true_class, self.predicted_class)
        )
        self._mistakes = TopKMistakes(self.count, self.order, self.seed, true, predicted)
        self._sample.to(pl_module.device).reset()

    def update(self, pl_module: EvaluatedModule, outputs: dict[str, Any], batch: Any) -> None:
        """Keep the top-ranked mistakes of a batch."""
        self._sample.update(outputs["logits"], outputs["labels"], outputs["indices"])
        self._mistakes.update(batch.pixels, outputs["logits"], outputs["labels"], outputs["indices"])

    def compute(self, pl_module: EvaluatedModule) -> tuple[Mistakes, Reference]:
        """Return the mistakes of all processes, and evaluated images to compare them with."""
        return self._mistakes.gather(pl_module.all_gather), self._sample.compute()

    def write(self, results: tuple[Mistakes, Reference], writer: EvaluationWriter) -> None:
        """Write the picture, the table and the CSV file."""
        if self.count == 0:
            return
        mistakes, reference = results
        rows = _rows(mistakes, reference, writer)
        title = self._title(mistakes, writer)
        captions = [row.caption() for row in rows]
        pixels = mistakes.pixels.permute(0, 2, 3, 1).numpy()
        colors = (CORRECT_INK, WRONG_INK, FAINT_INK)
        writer.add_image(MISTAKES, self._name, image_grid(pixels, captions, 3, 128, title, colors))
        header = ["index", "true class", "predicted class", "confidence", "loss", ""]
        cells = [
            [
                str(row.image_index),
                row.true,
                row.predicted,
                f"{row.confidence:.1%}",
                f"{row.loss:.3f}",
                _LABEL_ISSUE if row.label_issue else "",
            ]
            for row in rows
        ]
        writer.add_text(MISTAKES, self._name, f"{title.splitlines()[-1]}\n\n{table(header, cells)}")
        if writer.folder is not None:
            suffix = "" if writer.split == "val" else f"_{writer.split}"
            _write_csv(writer.folder / f"{self._name.replace(' ', '_')}{suffix}.csv", writer.step, rows)

    @property
    def _name(self) -> str:
        """Name of picture, table and file; differs by order and filters, so that several callbacks can be used."""
        order = [] if self.order == "confidence" else [self.order]
        return " ".join(["misclassified", *order, *filter(None, (self.true_class, self.predicted_class))])

    def _title(self, mistakes: Mistakes, writer: EvaluationWriter) -> str:
        filters = [f"images of {self.true_class}"] if self.true_class else []
        filters += [f"predicted as {self.predicted_class}"] if self.predicted_class else []
        heading = ", ".join(["Misclassified", *filters]) + f": {_ORDERS[self.order]}"
        count = f"{len(mistakes.labels)} of {mistakes.errors:,} errors in {mistakes.images:,} images"
        return f"{heading}\n{writer.subtitle}\n{count}"


class _Row(NamedTuple):
    """A misclassified image; index and file in the dataset."""

    image_index: int
    file: str
    true: str
    predicted: str
    confidence: float
    loss: float
    label_issue: bool

    def caption(self) -> str:
        """Return the caption below the image."""
        lines = [self.true, f"→ {self.predicted}", f"{self.confidence:.1%}", f"#{self.image_index}"]
        return "\n".join([*lines, "label may", "be wrong"] if self.label_issue else lines)


def _rows(mistakes: Mistakes, reference: Reference, writer: EvaluationWriter) -> list[_Row]:
    names = writer.pl_module.class_names
    flagged = find_label_issues(mistakes.logits, mistakes.labels, mistakes.indices, reference).flagged
    columns = (mistakes.indices, mistakes.labels, mistakes.predictions, mistakes.confidences, mistakes.losses, flagged)
    return [
        _Row(index, writer.file_of(index), names[true], names[predicted], confidence, loss, issue)
        for index, true, predicted, confidence, loss, issue in zip(*map(Tensor.tolist, columns), strict=True)
    ]


def _write_csv(path: Path, step: int, rows: Sequence[_Row]) -> None:
    header = ["step", "index", "file", "true", "predicted", "confidence", "loss", "label_may_be_wrong"]
    cells = [[step, *row[:4], f"{row.confidence:.6f}", f"{row.loss:.6f}", int(row.label_issue)] for row in rows]
    write_atomically(path, csv_text([header, *cells]).encode("utf-8", "surrogateescape"))
