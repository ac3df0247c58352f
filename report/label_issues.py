"""Report section: labels that may be wrong."""

import heapq
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from callbacks.rendering.fonts_and_colors import FAINT_INK, INK, WRONG_INK
from callbacks.rendering.grid import image_grid
from cifar_lit.csv_text import csv_text
from cifar_lit.errors import InputError
from cifar_lit.evaluation.label_issues import LabelIssues, agrees_enough, find_label_issues
from report.document import Document, section
from report.results import TILE
from space.export.evaluate import EvaluationSplit

_MAX_SHOWN = 15  # in the picture; the CSV has all


def issues_of(split: EvaluationSplit, logits: Tensor) -> LabelIssues:
    """Return how suspicious the labels of a split are, compared with each other."""
    return find_label_issues(logits, split.labels.cpu(), split.rows.cpu())


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
    issues = [(split, issues_of(split, logits)) for split, logits in predictions]
    scored = [
        (score, split, found, position)
        for split, found in issues
        for position, score in enumerate(found.scores.tolist())
    ]
    listed = heapq.nsmallest(count, scored, key=lambda item: item[0])
    header = ["split", "index", "file", "label", "suggested", "probability of the label", "may_be_wrong"]
    cells, precisions = [], defaultdict(list)
    for score, split, found, position in listed:
        row = int(split.rows[position])
        file = split.images.files[row] if split.images.files else ""
        label, suggested = names[int(split.images.labels[row])], names[int(found.suggested[position])]
        suggested = "" if suggested == label else suggested  # ranked, but no other class is more probable
        cells.append([split.name, row, file, label, suggested, f"{score:.6f}", int(found.flagged[position])])
        if (precision := float(found.precision[position])) > 0:
            precisions[split.name].append(precision)
    wrong = sum(of_split[-1] * len(of_split) for of_split in precisions.values())  # the last one's includes the others
    link = document.file("label_errors.csv", csv_text([header, *cells]), f"the {len(listed):,} most suspicious labels")
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
    elif listed:
        sentences.append(f"Listed, though probably right: {link}.")
    document.text(" ".join(sentences))
    document.finding(finding)
    if shown := [pair for pair in zip(cells, listed, strict=True) if pair[0][4]][:_MAX_SHOWN]:  # with a suggestion
        captions = [
            f"{label}\n{suggested}?\n{split} #{row}\n{'may be wrong' if flagged else ''}"
            for (split, row, _, label, suggested, _, flagged), _ in shown
        ]
        pixels = [split.images.pixels[split.rows[position]] for _, (_, split, _, position) in shown]
        colors = (INK, INK, FAINT_INK, WRONG_INK)
        document.text(
            "The most suspicious, each with its label, the most probable class, and the image's index; marked if the"
            " label may be wrong."
        )
        tiles = torch.stack(pixels).cpu().permute(0, 2, 3, 1).numpy()
        draw = partial(image_grid, tiles, captions, 5, TILE, line_colors=colors)
        document.grid("label_errors", draw, "Images with the most suspicious labels")
        if any(file for (_, _, file, *_), _ in shown):
            rows = [[f"{split} #{row}", file, label, other] for (split, row, file, label, other, *_), _ in shown]
            document.table(["image", "file", "label", "suggested"], rows)
