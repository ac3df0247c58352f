"""Images whose label may be wrong, found by confident learning."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from callbacks.rendering.grid import image_grid
from callbacks.rendering.text import FAINT_INK, RIGHT_INK, WRONG_INK
from cifar_lit.evaluation.label_issues import find_label_issues
from report.document import Document
from space.export.evaluate import Images

_SHOWN = 15  # suspects that are pictured; all are in the CSV
_TILE = 160  # pixels of an image in a picture, wide enough for its caption


@dataclass(frozen=True)
class OutOfSamplePredictions:
    """Images with what a network that did not learn from them says of them.

    part: The images.
    probabilities: float (n, C), of the classes, as the network has them (at temperature 1).
    """

    part: Images
    probabilities: Tensor


@dataclass(frozen=True)
class Suspect:
    """An image whose label may be wrong.

    part: What it is one of.
    row: Its place in the data set.
    label: That it has.
    suggested: The label that the network would give.
    score: The probability that the network gives to the label that it has.
    """

    part: Images
    row: int
    label: int
    suggested: int
    score: float

    @property
    def file(self) -> str:
        """That it is from, relative to its split's folder; empty where there is none."""
        return self.part.images.files[self.row] if self.part.images.files else ""


def all_suspects(examined: Sequence[OutOfSamplePredictions]) -> list[Suspect]:
    """The images whose label may be wrong, the likeliest first; each part is judged by itself."""
    found = []
    for one in examined:
        labels = one.part.labels.cpu()
        issues = find_label_issues(one.probabilities, labels)
        for place, suggested, score in zip(*map(Tensor.tolist, issues), strict=True):
            row, label = int(one.part.rows[place]), int(labels[place])
            found.append(Suspect(one.part, row, label, suggested, score))
    return sorted(found, key=lambda suspect: suspect.score)


def write_label_issues(
    document: Document, names: Sequence[str], examined: Sequence[OutOfSamplePredictions], how: str
) -> None:
    """Images whose label may be wrong, the likeliest first.

    Args:
        document: The report.
        names: The classes.
        examined: Images that their network did not learn from.
        how: A sentence on what was examined.
    """
    document.heading("Labels that may be wrong")
    if not examined:
        document.missing("Label errors", "there are no images at hand that the network was not trained on")
        return
    found = all_suspects(examined)
    link = _write_csv(document, names, found)
    count = sum(len(one.part.rows) for one in examined)
    document.text(
        f"{how} Of {count:,} images, {len(found):,} have a label that may be wrong, by confident learning"
        " ([Northcutt et al. 2021](https://arxiv.org/abs/1911.00068))" + (f": {link}." if found else ".")
    )
    if shown := found[:_SHOWN]:
        captions = [f"{names[one.label]}\n{names[one.suggested]}?\n{one.part.split}\n#{one.row}" for one in shown]
        pixels = torch.stack([one.part.images.pixels[one.row].cpu() for one in shown])
        colors = (WRONG_INK, RIGHT_INK, FAINT_INK, FAINT_INK)
        grid = image_grid(pixels.permute(0, 2, 3, 1).numpy(), captions, 5, _TILE, line_colors=colors)
        document.text("The likeliest: the label that each has, the one that the network suggests, and its place.")
        document.picture("label_errors", grid, "Images whose label may be wrong")
        files = [[f"{one.part.split} #{one.row}", one.file, names[one.label], names[one.suggested]] for one in shown]
        if any(one.file for one in shown):
            document.table(["image", "file", "label", "suggested"], files)


def _write_csv(document: Document, names: Sequence[str], found: Sequence[Suspect]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["images", "index", "file", "label", "suggested", "probability of the label"])
    for one in found:
        score = f"{one.score:.6f}"
        writer.writerow([one.part.split, one.row, one.file, names[one.label], names[one.suggested], score])
    return document.file("label_errors.csv", text.getvalue(), "all of them")
