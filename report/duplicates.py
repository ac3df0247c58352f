"""Report section: evaluated images with a near-duplicate among the training images, and the accuracy without them."""

import torch
from torch import Tensor

from callbacks.rendering.fonts_and_colors import FAINT_INK, INK
from cifar_lit.evaluation.duplicates import DuplicateThresholds, Matches, find_near_duplicates, fingerprints_of_pixels
from cifar_lit.evaluation.neighbors import evenly_spaced
from report.document import Document, section
from report.results import accuracy_cell
from space.export.run_data import RunData

_MAX_SHOWN = 20  # pairs in the picture
_MAX_TRAINING_IMAGES = 100_000  # to search, evenly spaced: 20 s for 10,000 test images on two cores
_BATCH = 1024
_MAX_SHARE = 0.1  # of images with duplicates, above which they probably just look alike


@section("Duplicates across splits")
def write_duplicates(document: Document, run: RunData) -> None:
    """Write the near-duplicates of evaluated images among the training images, and the accuracy without them."""
    split, train = run.eval_split, run.training_data.train_set
    rows = evenly_spaced(train.rows.cpu(), _MAX_TRAINING_IMAGES)
    queries = fingerprints_of_pixels(split.batches(_BATCH))
    candidates = fingerprints_of_pixels(train.images.pixels[chunk] for chunk in rows.split(_BATCH))
    matches = find_near_duplicates(queries, candidates, DuplicateThresholds())
    count, images = len(matches.queries), len(split.rows)
    document.text(
        f"{count:,} of {images:,} {split.name} images have a near-duplicate among {len(rows):,} training images:"
        " their perceptual hashes (pHash) and their 8x8 thumbnails agree."
    )
    if not count:
        return
    if count > _MAX_SHARE * images:
        document.text("So many mean that images of this dataset look alike by nature, or that the splits overlap.")
    _write_accuracies(document, run, matches.queries)
    _write_pictures(document, run, matches, rows)


def _write_accuracies(document: Document, run: RunData, duplicates: Tensor) -> None:
    is_duplicate = torch.zeros(len(run.correct), dtype=torch.bool)
    is_duplicate[duplicates] = True
    cells = []
    parts = {"all": run.correct, "duplicates": run.correct[is_duplicate], "without them": run.correct[~is_duplicate]}
    for name, correct in parts.items():
        if len(correct):
            cells.append([f"{run.eval_split.name}: {name}", f"{len(correct):,}", accuracy_cell(correct)])
    document.table(["images", "number", "accuracy (95% interval)"], cells)
    images = f"{len(run.correct):,} {run.eval_split.name} images"
    accuracy = f"; accuracy without them: {cells[-1][2]}" if len(parts["without them"]) else ""
    document.finding(f"**{len(duplicates):,}** of {images} resemble a training image{accuracy}.")


def _write_pictures(document: Document, run: RunData, matches: Matches, rows: Tensor) -> None:
    split, train, names = run.eval_split, run.training_data.train_set.images, run.class_names
    indices, others = split.rows.cpu()[matches.queries], rows[matches.candidates]
    labels, other_labels = split.images.labels[indices].cpu(), train.labels[others].cpu()
    differs = labels != other_labels
    document.text(
        "The most similar, each on the right of its training image, with their classes and indices. Those whose"
        f" class differs from their duplicate's come first ({int(differs.sum()):,})."
    )
    ranked = (matches.correlations + 2 * differs).argsort(descending=True)[:_MAX_SHOWN]
    pixels, captions = [], []
    for row in ranked.tolist():
        pixels += [train.pixels[others[row]].cpu(), split.images.pixels[indices[row]].cpu()]
        captions += [
            f"{names[other_labels[row]]}\ntrain #{others[row]}",
            f"{names[labels[row]]}\n{split.name} #{indices[row]}",
        ]
    description = "Images and their near-duplicates among the training images"
    document.images("duplicates", torch.stack(pixels), captions, description, 6, (INK, FAINT_INK))
