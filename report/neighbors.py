"""The training images that a network finds most like those that it is wrong about, or unsure."""

import numpy as np
import torch

from callbacks.rendering.grid import image_grid
from cifar_lit.evaluation.neighbors import nearest_training_images
from report.document import Document
from report.results import pixels_of, worth_showing
from space.export.run_data import RunData

_TILE = 160  # pixels of an image in the picture, wide enough for its caption
_NEIGHBOURS = 5
_MOST_TRAINING = 10_000  # training images among which the nearest are sought, taken evenly


def write_neighbors(document: Document, evidence: RunData, count: int) -> None:
    """For the images that are shown as misclassified, the training images that the network finds most alike."""
    document.heading("Training images most alike")
    if not evidence.sets or evidence.data is None:
        document.missing("Nearest training images", evidence.at_hand.note or "the run's data are not at hand")
        return
    places = worth_showing(evidence, count)
    train, names = evidence.data.train_set, evidence.class_names
    asked = pixels_of(evidence, places)
    try:
        found, alike = nearest_training_images(
            evidence.trained.network, asked, train.images.pixels, train.rows, _MOST_TRAINING, _NEIGHBOURS
        )
    except ValueError as error:
        document.missing("Nearest training images", str(error))
        return
    pixels, captions = [], []
    said = evidence.logits[evidence.last.split][places].argmax(1).tolist()
    true = evidence.last.labels[places].tolist()
    for row in range(len(places)):
        pixels += [asked[row : row + 1], train.images.pixels[found[row]]]
        captions.append(names[true[row]] + ("" if true[row] == said[row] else f"\n→ {names[said[row]]}"))
        near = zip(train.images.labels[found[row]].tolist(), alike[row].tolist(), strict=True)
        captions += [f"{names[label]}\n{similarity:.2f}" for label, similarity in near]
    images: np.ndarray = torch.cat(pixels).permute(0, 2, 3, 1).numpy()
    document.text(
        "Each row begins with one of the images above; beside it stand those of"
        f" {min(_MOST_TRAINING, len(train)):,} training images whose penultimate features are most alike (cosine"
        " similarity below): what the network may have learnt it from."
    )
    grid = image_grid(images, captions, 1 + found.shape[1], _TILE)
    document.picture("neighbors", grid, "Images and their nearest neighbors")
