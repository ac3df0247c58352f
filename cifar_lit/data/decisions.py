"""Decisions on images: keep, relabel or drop, made in a review and applied to the training images."""

import csv
from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from cifar_lit.csv_text import read_csv
from cifar_lit.data.batches import ImageTensors
from cifar_lit.errors import InputError

DECISIONS = ("keep", "relabel", "drop")
COLUMNS = ("split", "index", "file", "decision", "label")


def apply_decisions(
    path: Path, images: ImageTensors, rows: Tensor, class_names: Sequence[str]
) -> tuple[ImageTensors, Tensor]:
    """Drop and relabel training images as decided.

    Args:
        path: A CSV file with the columns ``index`` or ``file``, ``decision`` (keep, relabel or drop), ``label`` (the
            new class, for relabel) and maybe ``split``, of which only ``train`` is applied.
        images: All images.
        rows: int64 (n,), the training images among them; the labels of others do not change.
        class_names: The classes.

    Returns:
        The images with their new labels, and the rows without those that are dropped.

    Raises:
        InputError: If the file cannot be read, or names an unknown decision, class or image.
    """
    positions = {file: row for row, file in enumerate(images.files)}
    labels, dropped, trained = images.labels.clone(), torch.zeros(len(images), dtype=torch.bool), set(rows.tolist())
    counts = dict.fromkeys(DECISIONS, 0)
    for line, decision in enumerate(_read(path), start=2):
        if decision.get("split") not in (None, "", "train"):
            continue
        kind, name, file = decision["decision"], decision.get("label"), decision.get("file")
        index = decision.get("index") or ""
        row = positions.get(file, -1) if file else int(index) if index.isdigit() else -1
        if not 0 <= row < len(images):
            raise InputError(f"{path}, line {line}: no training image {file or index!r}; did the data change?")
        if kind not in DECISIONS:
            raise InputError(f"{path}, line {line}: decision must be {', '.join(DECISIONS)}, got {kind!r}")
        if kind == "relabel" and name not in class_names:
            raise InputError(f"{path}, line {line}: unknown class {name!r}; the classes are {', '.join(class_names)}")
        if row not in trained:  # held out for validation or test
            continue
        counts[kind] += 1
        if kind == "drop":
            dropped[row] = True
        elif kind == "relabel":
            labels[row] = class_names.index(str(name))
    rows = rows[~dropped[rows]]
    if missing := set(range(len(class_names))) - set(labels[rows].tolist()):
        raise InputError(f"{path} leaves no training images of class {class_names[min(missing)]!r}")
    rank_zero_only(print)(f"{path}: {counts['relabel']} training images relabeled, {counts['drop']} dropped")
    return ImageTensors(images.pixels, labels, images.files), rows


def _read(path: Path) -> list[dict[str, str]]:
    try:
        rows = read_csv(path)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"data.decisions: {path} cannot be read as CSV ({error})") from error
    if any("decision" not in row or not row.keys() & {"index", "file"} for row in rows):
        raise InputError(f"data.decisions: {path} must have the columns decision, and index or file")
    return rows
