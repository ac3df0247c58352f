"""Report section: the training images most similar to the images shown as misclassified."""

import numpy as np
import torch

from callbacks.rendering.grid import image_grid
from cifar_lit.evaluation.neighbors import nearest_training_images
from report.document import Document, section
from report.results import TILE, images_to_show, pixels_of
from space.export.run_data import RunData

_NEIGHBORS = 5
_MAX_TRAINING_IMAGES = 10_000  # to search, evenly spaced


@section("Most similar training images")
def write_neighbors(document: Document, run: RunData, count: int) -> None:
    """Write the nearest training images of the images shown as misclassified."""
    shown = images_to_show(run, count)
    train, names = run.training_data.train_set, run.class_names
    queries = pixels_of(run, shown)
    neighbors, similarities = nearest_training_images(
        run.classifier.network, queries, train.images.pixels, train.rows, _MAX_TRAINING_IMAGES, _NEIGHBORS
    )
    pixels, captions = [], []
    columns = (queries.split(1), run.eval_split.labels[shown].tolist(), run.eval_logits[shown].argmax(1).tolist())
    for query, true, predicted, rows, cosines in zip(*columns, neighbors, similarities.tolist(), strict=True):
        pixels += [query, train.images.pixels[rows]]
        captions.append(names[true] + ("" if true == predicted else f"\n→ {names[predicted]}"))
        labels = train.images.labels[rows].tolist()
        captions += [f"{names[label]}\n{cosine:.2f}" for label, cosine in zip(labels, cosines, strict=True)]
    images: np.ndarray = torch.cat(pixels).permute(0, 2, 3, 1).numpy()
    document.text(
        f"Each row starts with one of the images above, then its nearest of {min(_MAX_TRAINING_IMAGES, len(train)):,}"
        " training images, by cosine similarity of penultimate features (shown below each)."
    )
    grid = image_grid(images, captions, 1 + neighbors.shape[1], TILE)
    document.picture("neighbors", grid, "Images and their nearest neighbors")
