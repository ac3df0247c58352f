"""Report section: labels that may be wrong."""

import heapq
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from callbacks.rendering.fonts_and_colors import FAINT_INK, INK, WRONG_INK
from cifar_lit.csv_text import csv_text
from cifar_lit.errors import InputError
from cifar_lit.evaluation.label_issues import LabelIssues, agrees_enough, find_label_issues
from report.document import Document, section
from space.export.evaluate import EvaluationSplit

_MAX_SHOWN = 15  # in the picture; the CSV has all


@section("Labels that may be wrong")
def write_label_issues(
    document: Document,
    names: Sequence[str],
    predictions: Sequence[tuple[EvaluationSplit, Tensor]],
    how: str,
    count: int,
) -> None:
    """Write the images whose label may be wrong, the most suspicious first.

    Args:
        document: The report.
        names: The classes.
        predictions: Images, and the logits float32 (n, C) of a network that was not trained on them.
        how: A sentence on which images were examined.
        count: Number of labels to list.
    """
    if not predictions:
        raise InputError("there are no images that the network was not trained on")
    issues = [(split, find_label_issues(logits, split.labels.cpu(), split.rows.cpu())) for split, logits in predictions]
    examined = (row for split, found in issues for row in _rows(split, found, names))
    rows = heapq.nsmallest(count, examined, key=lambda row: row.score)
    precisions = defaultdict(list)
    for row in rows:
        if row.precision > 0:
            precisions[row.split.name].append(row.precision)
    wrong = sum(of_split[-1] * len(of_split) for of_split in precisions.values())  # the last one's includes the others
    header = ["split", "index", "file", "label", "suggested", "probability of the label", "may_be_wrong"]
    cells = [
        [row.split.name, row.index, row.file, row.label, row.suggested, f"{row.score:.6f}", int(row.flagged)]
        for row in rows
    ]
    link = document.file("label_errors.csv", csv_text([header, *cells]), f"the {len(rows):,} most suspicious labels")
    images = sum(len(found.scores) for _, found in issues)
    flagged = sum(int(found.flagged.sum()) for _, found in issues)
    sentences = [how, f"Of {images:,} labels, {flagged:,} may be wrong."]
    unsure = [split.name for split, logits in predictions if not agrees_enough(logits, split.labels.cpu())]
    finding = f"**{flagged:,}** of {images:,} examined labels may be wrong."
    if unsure:
        sets = f"the {' and '.join(unsure)} images"
        sentences.append(f"The network agrees with too few labels of {sets} to tell which are wrong.")
        finding = sentences[-1]
    if flagged:
        sentences.append("Both the network and the labels of the images that it sees alike speak against them.")
        sentences.append("Most of them are estimated to be wrong.")
    if wrong >= 0.5:
        sentences.append(f"Of {link}, an estimated {wrong:.0f} or more are wrong.")
        sentences.append("The estimate assumes that wrong labels are spread evenly over the images.")
        sentences.append("If more of them are on difficult images, it is too low.")
    elif rows:
        sentences.append(f"Listed{', though probably right' * (not unsure)}: {link}.")
    document.text(" ".join(sentences))
    document.finding(finding)
    if shown := [row for row in rows if row.suggested][:_MAX_SHOWN]:
        captions = [
            f"{row.label}\n{row.suggested}?\n{row.split.name} #{row.index}\n{'may be wrong' * row.flagged}"
            for row in shown
        ]
        document.text(
            "The most suspicious, each with its label, the most probable class, and the image's index; marked if the"
            " label may be wrong."
        )
        pixels = torch.stack([row.split.images.pixels[row.index] for row in shown])
        colors = (INK, INK, FAINT_INK, WRONG_INK)
        document.images("label_errors", pixels, captions, "Images with the most suspicious labels", line_colors=colors)
        if any(row.file for row in shown):
            cells = [[f"{row.split.name} #{row.index}", row.file, row.label, row.suggested] for row in shown]
            document.table(["image", "file", "label", "suggested"], cells)


@dataclass(frozen=True)
class _Row:
    split: EvaluationSplit
    index: int
    file: str
    label: str
    suggested: str  # empty if no other class is more probable
    score: float
    precision: float
    flagged: bool


def _rows(split: EvaluationSplit, found: LabelIssues, names: Sequence[str]) -> Iterator[_Row]:
    columns = zip(*map(Tensor.tolist, (split.rows, split.labels, *found)), strict=True)
    for index, label, score, suggested, precision, flagged in columns:
        file = split.images.files[index] if split.images.files else ""
        yield _Row(split, index, file, names[label], names[suggested] * (suggested != label), score, precision, flagged)
