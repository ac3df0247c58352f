"""Report section: labels that may be wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from callbacks.rendering.grid import image_grid
from callbacks.rendering.text import CORRECT_INK, FAINT_INK, WRONG_INK
from cifar_lit.csv_text import csv_text
from cifar_lit.errors import InputError
from cifar_lit.evaluation.label_issues import LabelIssues, ReferenceSample, find_label_issues
from report.document import Document, section
from report.results import TILE
from space.export.evaluate import EvaluationSplit

_MAX_SHOWN = 15  # in the picture; the CSV has all


@dataclass(frozen=True)
class OutOfSamplePredictions:
    """Images with the predictions of a network that was not trained on them.

    split: The images.
    logits: float32 (n, C), not divided by the temperature.
    """

    split: EvaluationSplit
    logits: Tensor

    def find_label_issues(self) -> LabelIssues:
        """Return how suspicious the labels are, compared with each other."""
        sample, images = ReferenceSample(), (self.logits, self.split.labels.cpu(), self.split.rows.cpu())
        sample.update(*images)
        return find_label_issues(*images, sample.compute())


@dataclass(frozen=True)
class LabelIssue:
    """An image with a suspicious label.

    split: The name of its split.
    row: Its row of the dataset.
    pixels: uint8 (3, H, W).
    file: Relative to its split's folder; empty if the images are not files.
    label, suggested: Its label, and the most probable class.
    score: The estimated probability of its label.
    precision: Estimated share of wrong labels among those of its split that are at least as suspicious.
    flagged: Whether the label may be wrong.
    """

    split: str
    row: int
    pixels: Tensor
    file: str
    label: str
    suggested: str
    score: float
    precision: float
    flagged: bool


def most_suspicious(names: Sequence[str], split: EvaluationSplit, issues: LabelIssues, count: int) -> list[LabelIssue]:
    """Return the most suspicious labels of a split, up to ``count`` of those that differ from the suggested class."""
    images, labels = split.images, split.labels.cpu()
    differs = issues.suggested != labels
    order = issues.scores.masked_fill(~differs, torch.inf).argsort(stable=True)[: min(count, int(differs.sum()))]
    listed = []
    for index in order.tolist():
        row, columns = int(split.rows[index]), (issues.scores, issues.precision, issues.flagged)
        score, precision, flagged = (column[index].item() for column in columns)
        file, suggested = images.files[row] if images.files else "", names[int(issues.suggested[index])]
        listed.append(
            LabelIssue(
                *(split.name, row, images.pixels[row].cpu(), file, names[int(labels[index])], suggested),
                *(score, precision, bool(flagged)),
            )
        )
    return listed


@section("Labels that may be wrong")
def write_label_issues(
    document: Document, names: Sequence[str], predictions: Sequence[OutOfSamplePredictions], how: str, count: int
) -> None:
    """Write the images whose label may be wrong, the most suspicious first.

    Args:
        document: The report.
        names: The classes.
        predictions: Images with out-of-sample predictions.
        how: A sentence on which images were examined.
        count: Number of labels to list.
    """
    if not predictions:
        raise InputError("there are no images that the network was not trained on")
    issues = [item.find_label_issues() for item in predictions]
    listed = [
        one
        for item, found in zip(predictions, issues, strict=True)
        for one in most_suspicious(names, item.split, found, count)
    ]
    listed = sorted(listed, key=lambda one: one.score)[:count]
    disputed = [one for one in listed if one.precision > 0]
    precision = {one.split: one.precision for one in disputed}  # of the last one, which includes those before it
    wrong = sum(precision[one.split] for one in disputed)
    header = ["split", "index", "file", "label", "suggested", "probability of the label", "may_be_wrong"]
    cells = [
        [one.split, one.row, one.file, one.label, one.suggested, f"{one.score:.6f}", int(one.flagged)] for one in listed
    ]
    link = document.file("label_errors.csv", csv_text([header, *cells]), f"the {len(listed):,} most suspicious labels")
    images, flagged = (sum(len(found.scores) for found in issues), sum(int(found.flagged.sum()) for found in issues))
    document.text(
        f"{how} Of {images:,} labels, {flagged:,} may be wrong: both the network and the labels of the images that it"
        f" sees alike speak against them, and most of them are estimated to be wrong. Of {link}, an estimated"
        f" {wrong:.0f} or more are wrong. The estimate assumes that wrong labels are spread evenly over the images; if"
        " more of them are on difficult images, it is too low."
    )
    document.finding(f"**{flagged:,}** of {images:,} examined labels may be wrong.")
    if shown := listed[:_MAX_SHOWN]:
        captions = [f"{one.label}\n{one.suggested}?\n{one.split}\n#{one.row}" for one in shown]
        pixels = torch.stack([one.pixels for one in shown]).permute(0, 2, 3, 1).numpy()
        colors = (WRONG_INK, CORRECT_INK, FAINT_INK, FAINT_INK)
        document.text("The most suspicious, each with its label, the most probable class, and the image's index.")
        grid = image_grid(pixels, captions, 5, TILE, line_colors=colors)
        document.picture("label_errors", grid, "Images with the most suspicious labels")
        if any(one.file for one in shown):
            rows = [[f"{one.split} #{one.row}", one.file, one.label, one.suggested] for one in shown]
            document.table(["image", "file", "label", "suggested"], rows)
