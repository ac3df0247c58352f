"""Lay out the results of an audit: a page with thumbnails, and a CSV file."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from callbacks.rendering.grid import image_grid
from callbacks.rendering.text import FAINT_INK, INK
from cifar_lit.csv_text import csv_text
from cifar_lit.inference.images import Resizing
from report.audit.duplicates import DuplicatePair
from report.audit.images import AuditedData, AuditedImage
from report.document import Document

_MAX_SHOWN = 20  # images, or pairs of images, in a picture
_TILE = 128  # pixels
_HEADER = ["split", "index", "file", "class", "issue", "detail"]
_HEADER += ["other split", "other index", "other file", "other class"]


class Issue(NamedTuple):
    """An issue of an image.

    kind, detail: What it is, and its measurement.
    place: Split, index, file and class of the image; the index is empty if the file cannot be read.
    other: The same of the image that it duplicates, or empty.
    image: The image, unless it cannot be read.
    """

    kind: str
    detail: str
    place: tuple[str, str, str, str]
    other: tuple[str, str, str, str] = ("", "", "", "")
    image: AuditedImage | None = None

    @property
    def text(self) -> str:
        """The image, the image that it duplicates, and the detail on one line."""
        names = [file or f"{split} #{index}" for split, index, file, _ in (self.place, self.other) if split]
        return f"{' = '.join(names)}: {self.detail}"

    @property
    def has_other_class(self) -> bool:
        """Whether the image duplicates one of another class."""
        return any(self.other) and self.place[-1] != self.other[-1]


def issues_of(audited: AuditedData, pairs: Sequence[DuplicatePair]) -> list[Issue]:
    """Return all issues, those of one kind together."""
    issues = [
        Issue("unreadable", reason, (split, "", file, label)) for split, file, label, reason in audited.unreadable
    ]
    faults = [
        Issue(kind, detail, _place(image), image=image)
        for image in audited.images
        for kind, detail in image.measured.faults
    ]
    issues += sorted(faults, key=lambda issue: issue.kind)
    issues += [Issue(pair.kind, pair.detail, _place(pair.image), _place(pair.other), pair.image) for pair in pairs]
    return issues


def write_page(
    document: Document,
    audited: AuditedData,
    issues: Sequence[Issue],
    pairs: Sequence[DuplicatePair],
    class_names: Sequence[str],
) -> None:
    """Write the page and the CSV file."""
    cells = [[*issue.place, issue.kind, issue.detail, *issue.other] for issue in issues]
    link = document.file("issues.csv", csv_text([_HEADER, *cells]), "issues.csv")
    document.finding(f"{len(issues):,} issues in {len(audited.images) + len(audited.unreadable):,} images: {link}.")
    if audited.note:
        document.missing("Splits", audited.note)
    _write_class_counts(document, audited.images, class_names)
    for kind in dict.fromkeys(issue.kind for issue in issues if not any(issue.other)):
        found = [issue for issue in issues if issue.kind == kind]
        document.heading(kind.capitalize())
        document.text(_number(len(found), "image") + _first(len(found)))
        document.table(["image", "class"], [[issue.text, issue.place[3]] for issue in found[:_MAX_SHOWN]])
        if images := [issue.image for issue in found[:_MAX_SHOWN] if issue.image]:
            document.picture(kind.replace(" ", "_"), _grid(images, columns=5), f"Images: {kind}")
    for heading, is_across in (("Duplicates across splits", True), ("Duplicates in a split", False)):
        if chosen := [pair for pair in pairs if pair.is_across == is_across]:
            document.heading(heading)
            write_pairs(document, heading, chosen)
    document.write()


def write_pairs(document: Document, name: str, pairs: Sequence[DuplicatePair]) -> None:
    """Write the number of pairs, and the first twenty as pictures."""
    exact, other_label = sum(pair.is_exact for pair in pairs), sum(pair.has_other_label for pair in pairs)
    document.text(
        f"{_number(len(pairs), 'image')}, of which {exact:,} are identical to another; each is shown on the right of"
        f" the most similar one.{_first(len(pairs))}"
    )
    if other_label:
        document.text(f"Those with another class than their duplicate come first: {other_label:,}.")
        document.finding(f"{name}: **{other_label:,}** of {len(pairs):,} with another class than their duplicate.")
    shown = [image for pair in pairs[:_MAX_SHOWN] for image in (pair.other, pair.image)]
    document.picture(name.lower().replace(" ", "_"), _grid(shown, columns=4), name)


def _write_class_counts(document: Document, images: Sequence[AuditedImage], class_names: Sequence[str]) -> None:
    document.heading("Images per class")
    splits = list(dict.fromkeys(image.split for image in images))
    counts = Counter((image.label, image.split) for image in images)
    rows = [[name, *(f"{counts[name, split]:,}" for split in splits)] for name in class_names]
    document.table(["class", *splits], rows)


def _grid(images: Sequence[AuditedImage], columns: int) -> np.ndarray:
    """Return a picture of the images, each with its class, place and file."""
    captions, pixels = [], []
    for image in images:
        captions.append(f"{image.label}\n{image.split} #{image.index}\n{Path(image.file).name}".strip())
        read = image.read((_TILE, _TILE))
        scale = max(1, _TILE // max(read.size))  # small images are enlarged by whole pixels
        enlarged = read.resize((read.width * scale, read.height * scale), Image.Resampling.NEAREST)
        pixels.append(np.asarray(Resizing((_TILE, _TILE), "pad").apply(enlarged)))
    return image_grid(np.stack(pixels), captions, columns, _TILE, line_colors=(INK, FAINT_INK))


def _place(image: AuditedImage) -> tuple[str, str, str, str]:
    return image.split, str(image.index), image.file, image.label


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _first(count: int) -> str:
    return f" The first {_MAX_SHOWN}:" if count > _MAX_SHOWN else ""
