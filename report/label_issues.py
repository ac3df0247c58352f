"""Report section: labels that may be wrong, by confident learning."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from callbacks.rendering.grid import image_grid
from callbacks.rendering.text import CORRECT_INK, FAINT_INK, WRONG_INK
from cifar_lit.csv_text import csv_text
from cifar_lit.errors import InputError
from cifar_lit.evaluation.label_issues import find_label_issues
from report.document import Document, section
from report.results import TILE
from space.export.evaluate import EvaluationSplit

_MAX_SHOWN = 15  # in the picture; the CSV has all


@dataclass(frozen=True)
class OutOfSamplePredictions:
    """Images with the predictions of a network that was not trained on them.

    split: The images.
    probabilities: float (n, C), not calibrated.
    """

    split: EvaluationSplit
    probabilities: Tensor


@dataclass(frozen=True)
class LabelIssue:
    """An image whose label may be wrong.

    split: The name of its split.
    row: Its row of the dataset.
    pixels: uint8 (3, H, W).
    file: Relative to its split's folder; empty if the images are not files.
    label, suggested: Its label, and the network's prediction.
    score: The predicted probability of its label.
    """

    split: str
    row: int
    pixels: Tensor
    file: str
    label: str
    suggested: str
    score: float


def rank_label_issues(names: Sequence[str], predictions: Sequence[OutOfSamplePredictions]) -> list[LabelIssue]:
    """Return the images whose label may be wrong, the most suspicious first; splits are examined separately."""
    issues = []
    for item in predictions:
        split, labels, images = item.split, item.split.labels.cpu(), item.split.images
        found = find_label_issues(item.probabilities, labels)
        for index, suggested, score in zip(*map(Tensor.tolist, found), strict=True):
            row, label = int(split.rows[index]), names[int(labels[index])]
            file = images.files[row] if images.files else ""
            issues.append(LabelIssue(split.name, row, images.pixels[row].cpu(), file, label, names[suggested], score))
    return sorted(issues, key=lambda issue: issue.score)


@section("Labels that may be wrong")
def write_label_issues(
    document: Document, names: Sequence[str], predictions: Sequence[OutOfSamplePredictions], how: str
) -> None:
    """Write the images whose label may be wrong, the most suspicious first.

    Args:
        document: The report.
        names: The classes.
        predictions: Images with out-of-sample predictions.
        how: A sentence on which images were examined.
    """
    if not predictions:
        raise InputError("there are no images that the network was not trained on")
    issues = rank_label_issues(names, predictions)
    header = ["images", "index", "file", "label", "suggested", "probability of the label"]
    cells = [[one.split, one.row, one.file, one.label, one.suggested, f"{one.score:.6f}"] for one in issues]
    link = document.file("label_errors.csv", csv_text([header, *cells]), "all of them")
    count = sum(len(item.split.rows) for item in predictions)
    document.text(
        f"{how} Of {count:,} images, {len(issues):,} have a label that may be wrong, by confident learning"
        " ([Northcutt et al. 2021](https://arxiv.org/abs/1911.00068))" + (f": {link}." if issues else ".")
    )
    document.finding(f"**{len(issues):,}** of {count:,} examined labels may be wrong.")
    if shown := issues[:_MAX_SHOWN]:
        captions = [f"{one.label}\n{one.suggested}?\n{one.split}\n#{one.row}" for one in shown]
        pixels = torch.stack([one.pixels for one in shown]).permute(0, 2, 3, 1).numpy()
        colors = (WRONG_INK, CORRECT_INK, FAINT_INK, FAINT_INK)
        document.text("The most suspicious, each with its label, the network's suggestion, and the image's index.")
        grid = image_grid(pixels, captions, 5, TILE, line_colors=colors)
        document.picture("label_errors", grid, "Images whose label may be wrong")
        if any(one.file for one in shown):
            rows = [[f"{one.split} #{one.row}", one.file, one.label, one.suggested] for one in shown]
            document.table(["image", "file", "label", "suggested"], rows)
