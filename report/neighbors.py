"""Report section: the training images most similar to the images shown as misclassified."""

import torch

from cifar_lit.evaluation.neighbors import features, nearest
from report.document import Document, section
from report.results import images_to_show, pixels_of
from space.export.run_data import RunData

_NEIGHBORS = 5


@section("Most similar training images")
def write_neighbors(document: Document, run: RunData, count: int) -> None:
    """Write the nearest training images of the images shown as misclassified."""
    shown = images_to_show(run, count)
    train, names = run.training_data.train_set, run.class_names
    queries, (candidates, training_features) = pixels_of(run, shown), run.training_features
    indices, similarities = nearest(
        features(run.classifier.network, queries.split(run.classifier.batch_size)), training_features, _NEIGHBORS
    )
    neighbors = candidates[indices]
    pixels, captions = [], []
    columns = (queries.split(1), run.eval_split.labels[shown].tolist(), run.eval_logits[shown].argmax(1).tolist())
    for query, true, predicted, rows, cosines in zip(*columns, neighbors, similarities.tolist(), strict=True):
        pixels += [query, train.images.pixels[rows]]
        captions.append(names[true] + ("" if true == predicted else f"\n→ {names[predicted]}"))
        labels = train.images.labels[rows].tolist()
        captions += [f"{names[label]}\n{cosine:.2f}" for label, cosine in zip(labels, cosines, strict=True)]
    document.text(
        f"Each row starts with an image of the section *Misclassified images*, then its nearest of {len(candidates):,}"
        " training images, by cosine similarity of penultimate features (shown below each)."
    )
    columns_shown = 1 + neighbors.shape[1]
    document.images("neighbors", torch.cat(pixels), captions, "Images and their nearest neighbors", columns_shown)
