"""Lay out the results of an audit: a page with thumbnails, and a CSV file."""

from functools import partial
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from callbacks.rendering.grid import image_grid
from callbacks.rendering.fonts_and_colors import FAINT_INK, INK
from cifar_lit.csv_text import csv_text
from cifar_lit.inference.images import Resizing
from report.audit.images import AuditedData, AuditedImage, Issue
from report.document import Document

_MAX_SHOWN = 20  # images, or pairs of images, in a picture
_TILE = 128  # pixels
_HEADER = ["split", "index", "file", "class", "issue", "detail"]
_HEADER += ["other split", "other index", "other file", "other class"]


def issues_of(audited: AuditedData, duplicates: Sequence[Issue]) -> list[Issue]:
    """Return all issues, those of one kind together."""
    issues = [
        Issue("unreadable", reason, (split, "", file, label)) for split, file, label, reason in audited.unreadable
    ]
    faults = [
        Issue(kind, detail, image.place, image) for image in audited.images for kind, detail in image.measured.faults
    ]
    return [*issues, *sorted(faults, key=lambda issue: issue.kind), *duplicates]


def write_page(document: Document, audited: AuditedData, issues: Sequence[Issue], class_names: Sequence[str]) -> None:
    """Write the page and the CSV file."""
    cells = [
        [*issue.place, issue.kind, issue.detail, *(issue.other.place if issue.other else [""] * 4)] for issue in issues
    ]
    link = document.file("issues.csv", csv_text([_HEADER, *cells]), "issues.csv")
    document.finding(f"{_number(len(issues), 'issue')} in {len(audited.images) + len(audited.unreadable):,} images: {link}.")
    if audited.note:
        document.missing("Splits", audited.note)
    _write_class_counts(document, audited.images, class_names)
    for kind in dict.fromkeys(issue.kind for issue in issues if issue.other is None):
        found = [issue for issue in issues if issue.kind == kind]
        document.heading(kind.capitalize())
        document.text(_number(len(found), "image") + _first(len(found)))
        document.table(["image", "class"], [[issue.text, issue.place[3]] for issue in found[:_MAX_SHOWN]])
        if images := [issue.image for issue in found[:_MAX_SHOWN] if issue.image]:
            document.grid(kind.replace(" ", "_"), _grid(images, columns=5), f"Images: {kind}")
    for where in ("across splits", "in a split"):
        if chosen := [issue for issue in issues if issue.other and issue.kind.endswith(where)]:
            document.heading(f"Duplicates {where}")
            _write_pairs(document, f"Duplicates {where}", chosen)
    document.write()


def _write_pairs(document: Document, name: str, pairs: Sequence[Issue]) -> None:
    """Write the number of pairs, and the first twenty as pictures."""
    exact = sum(pair.kind.startswith("exact") for pair in pairs)
    other_class = sum(pair.has_other_class for pair in pairs)
    document.text(
        f"{_number(len(pairs), 'image')}, of which {exact:,} are identical to another; each is shown on the right of"
        f" the most similar one.{_first(len(pairs))}"
    )
    if other_class:
        document.text(f"Those with another class than their duplicate come first: {other_class:,}.")
        document.finding(f"{name}: **{other_class:,}** of {len(pairs):,} with another class than their duplicate.")
    shown = [image for pair in pairs[:_MAX_SHOWN] for image in (pair.other, pair.image) if image]
    document.grid(name.lower().replace(" ", "_"), _grid(shown, columns=4), name)


def _write_class_counts(document: Document, images: Sequence[AuditedImage], class_names: Sequence[str]) -> None:
    document.heading("Images per class")
    splits = list(dict.fromkeys(image.split for image in images))
    counts = Counter((image.label, image.split) for image in images)
    rows = [[name, *(f"{counts[name, split]:,}" for split in splits)] for name in class_names]
    document.table(["class", *splits], rows)


def _grid(images: Sequence[AuditedImage], columns: int) -> Callable[..., np.ndarray]:
    """Return a function that draws the images, each with its class, place and file; see ``Document.grid``."""
    captions, pixels = [], []
    for image in images:
        captions.append(f"{image.label}\n{image.split} #{image.index}\n{Path(image.file).name}".strip())
        read = image.read((_TILE, _TILE))
        scale = max(1, _TILE // max(read.size))  # small images are enlarged by whole pixels
        enlarged = read.resize((read.width * scale, read.height * scale), Image.Resampling.NEAREST)
        pixels.append(np.asarray(Resizing((_TILE, _TILE), "pad").apply(enlarged)))
    return partial(image_grid, np.stack(pixels), captions, columns, _TILE, line_colors=(INK, FAINT_INK))


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _first(count: int) -> str:
    return f" The first {_MAX_SHOWN}:" if count > _MAX_SHOWN else ""
