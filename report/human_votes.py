"""Report section: the network compared with the votes of several people on each image."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from callbacks.rendering.fonts_and_colors import CORRECT_INK, FAINT_INK, WRONG_INK
from cifar_lit.csv_text import read_csv
from cifar_lit.errors import InputError
from cifar_lit.evaluation.human_votes import MIN_AGREEMENT, VoteComparison, compare_with_votes
from report.document import Document, section
from report.results import accuracy_cell
from space.export.evaluate import EvaluationSplit
from space.export.run_data import RunData

_MAX_SHOWN = 10  # images in each picture


def read_votes(path: Path, splits: Sequence[EvaluationSplit], class_names: Sequence[str]) -> tuple[str, Tensor]:
    """Read how often people chose each class for each image.

    Args:
        path: A NumPy file with an array (images, classes) in the order of the dataset, such as CIFAR-10H's counts; or a
            CSV file with a column for each class, and ``file`` or ``index``, which need not name every image.
        splits: The evaluated splits; a NumPy file is for the last one whose dataset has as many images, a CSV file for
            the last one.
        class_names: The classes.

    Returns:
        The name of the split, and counts float (n, C) for its images, 0 for those without votes.

    Raises:
        InputError: if the file cannot be read or does not fit the images.
    """
    if not splits:
        raise InputError("votes: there are no images to evaluate on; add some with --images DIR")
    try:
        if path.suffix == ".npy":
            return _read_array(path, splits, len(class_names))
        return splits[-1].name, _read_table(path, splits[-1], class_names)
    except (OSError, ValueError, TypeError, EOFError, csv.Error) as error:
        raise InputError(f"votes: {path} cannot be read ({error})") from error


def _read_array(path: Path, splits: Sequence[EvaluationSplit], classes: int) -> tuple[str, Tensor]:
    counts = torch.from_numpy(np.load(path, allow_pickle=False)).float()
    _check_counts(counts)
    if counts.ndim != 2 or counts.shape[1] != classes:
        raise ValueError(f"it must contain counts for {classes} classes, not an array of shape {tuple(counts.shape)}")
    for split in reversed(splits):
        if len(split.images) == len(counts):
            return split.name, counts[split.rows.cpu()]
    expected = " or ".join(f"{len(split.images):,} ({split.name})" for split in splits)
    raise ValueError(f"it has {len(counts):,} rows; the datasets of the evaluated images have {expected}")


def _read_table(path: Path, split: EvaluationSplit, class_names: Sequence[str]) -> Tensor:
    table = read_csv(path)
    positions: dict[str, int] = {str(row): position for position, row in enumerate(split.rows.tolist())}
    if split.images.files:
        positions |= {split.images.files[row]: position for position, row in enumerate(split.rows.tolist())}
    counts = torch.zeros(len(split.rows), len(class_names))
    for line, cells in enumerate(table, start=2):
        if missing := [name for name in class_names if name not in cells]:
            raise ValueError(f"it has no column {missing[0]!r}")
        image = cells.get("file") or cells.get("index") or ""
        if image not in positions:
            raise ValueError(f"line {line}: there is no {split.name} image {image!r}")
        counts[positions[image]] += torch.tensor([float(cells[name] or 0) for name in class_names])
    _check_counts(counts)
    return counts


def _check_counts(counts: Tensor) -> None:
    if not bool(((counts >= 0) & counts.isfinite()).all()):
        raise ValueError("it contains counts that are negative or not finite")


@section("Votes of people")
def write_votes(document: Document, run: RunData, path: Path) -> None:
    """Write how the predictions compare with people's votes, and show images on which only the network errs.

    Args:
        document: The report.
        run: The run.
        path: See ``read_votes``; an image without votes is left out.
    """
    split_name, votes = read_votes(path, run.splits, run.class_names)
    split = next(split for split in run.splits if split.name == split_name)
    voted = votes.sum(1).nonzero()[:, 0]
    if not len(voted):
        raise InputError(f"there are no votes on the {split_name} images")
    counts, logits = votes[voted], run.logits[split_name][voted] / run.classifier.recipe.temperature
    comparison, predicted = compare_with_votes(logits, counts), logits.argmax(1)
    document.text(
        f"{int(counts.sum()):,} votes on {len(counts):,} {split_name} images, {counts.sum(1).mean():.1f} each. People"
        f" agree on an image if at least {MIN_AGREEMENT:.0%} of them choose the same class. By the votes, an image is"
        " classified correctly if the predicted class is the one that most people chose. The cross-entropy of the"
        " calibrated probabilities against the votes is at least the entropy of the votes ([Peterson et al."
        " 2019](https://arxiv.org/abs/1908.07086))."
    )
    _write_scores(document, comparison, predicted == split.labels.cpu()[voted])
    errs = ~comparison.is_chosen & ~comparison.is_disputed
    document.finding(
        f"By people's votes, **{comparison.is_chosen.float().mean():.2%}** of {len(counts):,} {split_name} images are"
        f" classified correctly. Of the other {int((~comparison.is_chosen).sum()):,}, people agree on"
        f" {int(errs.sum()):,}."
    )
    pictures = {
        "network_errs": ("People agree, and only the network errs", errs, logits.softmax(1).amax(1), WRONG_INK),
        "people_disagree": ("People disagree", comparison.is_disputed, comparison.entropy, FAINT_INK),
    }
    for name, (text, shown, rank, color) in pictures.items():
        order = rank.masked_fill(~shown, -1).argsort(descending=True)[: min(_MAX_SHOWN, int(shown.sum()))]
        if len(order):
            document.text(f"{text} ({int(shown.sum()):,} images): most votes, and the predicted class.")
            pixels = split.images.pixels[split.rows[voted[order]]]
            captions = [_caption(run.class_names, counts[row], int(predicted[row])) for row in order.tolist()]
            colors = (CORRECT_INK, FAINT_INK, color)
            document.images(name, pixels, captions, text, line_colors=colors)


def _write_scores(document: Document, comparison: VoteComparison, is_correct: Tensor) -> None:
    disputed, chosen = comparison.is_disputed, comparison.is_chosen
    rows = []
    parts = {"all": disputed | True, "people agree": ~disputed, "people disagree": disputed}
    for name, part in parts.items():
        if images := int(part.sum()):
            shares = (is_correct.float(), comparison.support, comparison.agreement)
            by_labels, network, most = (f"{values[part].mean():.2%}" for values in shares)
            losses = (f"{values[part].mean():.4f}" for values in (comparison.cross_entropy, comparison.entropy))
            rows.append([name, f"{images:,}", by_labels, accuracy_cell(chosen[part]), network, most, *losses])
    header = ["images", "number", "accuracy by the labels", "by the votes (95% interval)"]
    header += ["votes for the prediction", "votes for the first choice", "cross-entropy", "entropy of the votes"]
    document.table(header, rows)


def _caption(class_names: Sequence[str], counts: Tensor, predicted: int) -> str:
    """Return the two classes with the most votes, with their shares, and the predicted class."""
    shares, classes = (counts / counts.sum()).topk(2)
    pairs = zip(shares.tolist(), classes.tolist(), strict=True)
    lines = [f"{class_names[label]} {share:.0%}" if share else "" for share, label in pairs]
    return "\n".join([*lines, f"→ {class_names[predicted]}"])
