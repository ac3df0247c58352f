"""What an accuracy does not tell: wrong labels, corrupted and unknown images, faithful heatmaps, nearest neighbours."""

import csv
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from callbacks.rendering.charts import lines_chart
from callbacks.rendering.feature_maps import feature_maps
from callbacks.rendering.grid import image_grid
from callbacks.rendering.text import FAINT_INK, RIGHT_INK, WRONG_INK
from cifar_lit.judged import fit_unknown
from space.markdown import escaped
from space.report.corruptions import EXTRA
from space.report.document import Document
from space.report.evidence import Evidence
from space.report.faithfulness import by_method_and_layer
from space.report.label_errors import Examined, all_suspects
from space.report.results import pixels_of, worst_mistakes
from space.report.robustness import robustness, unknown_auroc
from space.report.significance import wilson
from space.similar import evenly, nearest_training
from space.unknown_images import unknown_images

_SHOWN = 15  # suspects that are pictured; all are in the CSV
_TILE = 160  # pixels of an image in a picture, wide enough for its caption
_NEIGHBOURS = 5
_MOST_TRAINING = 10_000  # training images among which the nearest are sought, taken evenly
_EXPLAINED = 50  # images that faithfulness is measured on
_BATCH = 256


def held_out(evidence: Evidence) -> list[Examined]:
    """Validation and test images, as far as there are some."""
    return [
        Examined(part.split, part.images, part.rows, evidence.logits[part.split].softmax(1)) for part in evidence.sets
    ]


def write_label_errors(document: Document, names: Sequence[str], examined: Sequence[Examined], how: str) -> None:
    """Images whose label may be wrong, the likeliest first.

    Args:
        document: The report.
        names: The classes.
        examined: Images that their network did not learn from.
        how: A sentence on what was examined.
    """
    document.heading("Labels that may be wrong")
    if not examined:
        document.lacks("Label errors", "there are no images at hand that the network was not trained on")
        return
    found = all_suspects(examined)
    file = document.file("label_errors.csv")
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(["images", "index", "label", "suggested", "probability of the label"])
        for one in found:
            writer.writerow([one.part.name, one.row, names[one.label], names[one.suggested], f"{one.score:.6f}"])
    count = sum(len(part.rows) for part in examined)
    document.text(
        f"{how} Of {count:,} images, {len(found):,} have a label that may be wrong, by confident learning"
        " ([Northcutt et al. 2021](https://arxiv.org/abs/1911.00068))"
        + (f": {document.link(file, 'all of them')}." if found else ".")
    )
    if shown := found[:_SHOWN]:
        captions = [f"{names[one.label]}\n{names[one.suggested]}?\n{one.part.name}\n#{one.row}" for one in shown]
        pixels = torch.stack([one.part.images.pixels[one.row].cpu() for one in shown])
        colors = (WRONG_INK, RIGHT_INK, FAINT_INK, FAINT_INK)
        grid = image_grid(pixels.permute(0, 2, 3, 1).numpy(), captions, 5, _TILE, line_colors=colors)
        document.text("The likeliest: the label that each has, the one that the network suggests, and its place.")
        document.picture("label_errors", grid, "Images whose label may be wrong")


def write_robustness(document: Document, evidence: Evidence, most: int, seed: int) -> None:
    """Accuracy under common corruptions."""
    document.heading("Corrupted images")
    if not evidence.sets or most == 0:
        document.lacks("Robustness", "there are no images at hand" if most else "--robustness_images is 0")
        return
    last = evidence.last
    chosen = torch.randperm(len(last.rows), generator=torch.Generator().manual_seed(seed))[:most].sort().values
    found = robustness(evidence.trained, pixels_of(evidence, chosen), last.labels[chosen], seed)
    rows = [
        [kind, *(f"{value:.1%}" for value in accuracy), f"{1 - accuracy.mean():.1%}"]
        for kind, accuracy in zip(found.kinds, found.accuracy, strict=True)
    ]
    low, high = wilson(round(found.clean * found.images), found.images)
    document.text(
        f"Accuracy on {found.images:,} {last.split} images, which is {found.clean:.1%} as they are (95 % interval"
        f" {low:.1%} to {high:.1%}), with corruptions of CIFAR-10-C"
        " ([Hendrycks & Dietterich 2019](https://arxiv.org/abs/1903.12261)) at five severities. **Mean corruption"
        f" error: {found.mean_error:.1%}**, over 11 of the 15 kinds of the published mean: glass blur, snow, frost and"
        f" elastic are not made here, and {', '.join(EXTRA)} do not count in it. It is not divided by that of another"
        " network."
    )
    document.table(["corruption", *map(str, range(1, 6)), "mean error"], rows)
    curves = {
        kind: [found.clean, *accuracy] for kind, accuracy in zip(found.kinds, found.accuracy.tolist(), strict=True)
    }
    picture = lines_chart(curves, range(6), ("severity (0: as it is)", "accuracy"), (0, 1), columns=5)
    document.picture("robustness", picture, "Accuracy against severity for each corruption")


def write_unknown(document: Document, evidence: Evidence, others: Mapping[str, Tensor], seed: int) -> None:
    """How well the network notices images that are none of its classes.

    Args:
        document: The report.
        evidence: What it is written from.
        others: Further images that are none of the classes, by kind, uint8 (N, 3, H, W).
        seed: Of the images that are made.
    """
    document.heading("Images of something else")
    if not evidence.sets:
        document.lacks("Unknown images", "there are no images at hand to compare them with")
        return
    recipe = evidence.trained.recipe
    kinds = unknown_images(256, recipe.image_size, recipe.class_names, seed)
    kinds |= others
    logits = {
        kind: torch.cat([evidence.trained.logits(part).cpu() for part in pixels.split(_BATCH)])
        for kind, pixels in kinds.items()
    }
    areas = unknown_auroc(evidence.logits[evidence.last.split], logits)
    found = fit_unknown(evidence.logits, logits)
    document.text(
        "The energy of the logits ([Liu et al. 2020](https://arxiv.org/abs/2010.03759)) is to tell images of the"
        " classes from others; the page shows the same. AUROC: how often an image of the classes has"
        f" more of it than one of the others. Below {found.threshold:.2f} an image is called unknown:"
        f" {found.false_alarms:.1%} of the {found.judged_on} images are, wrongly"
        + (" (5 % by choice: they are the images that the threshold was chosen on)." if len(evidence.sets) < 2 else ".")
    )
    rows = [[kind, len(kinds[kind]), f"{areas[kind]:.4f}", f"{found.found[kind]:.1%}"] for kind in kinds]
    document.table(["images of something else", "number", "AUROC", "called unknown"], rows)


def write_faithfulness(document: Document, evidence: Evidence, seed: int) -> None:
    """Whether the heatmaps show what the network uses, by method and layer."""
    document.heading("Faithfulness of the heatmaps")
    net = evidence.trained.network.net
    if not evidence.sets:
        document.lacks("Faithfulness", "there are no images at hand")
        return
    places = evenly(torch.arange(len(evidence.last.rows)), _EXPLAINED)
    inputs = evidence.trained.network.inputs_of(pixels_of(evidence, places).to(evidence.trained.device))
    layers = last_of_each_size(feature_maps(net, inputs))
    if not layers:
        document.lacks("Faithfulness", "the network has no feature maps")
        return
    classes = evidence.logits[evidence.last.split][places].argmax(1)[:, None].to(inputs.device)
    try:
        measured = by_method_and_layer(net, inputs, classes, layers, seed)
    except ValueError as error:  # a network that switches gradients off
        document.lacks("Faithfulness", str(error))
        return
    found = sorted(measured.items(), key=lambda pair: -pair[1].insertion)
    rows = [[*where, *one.row()] for where, one in found]
    document.text(
        f"On {len(places)} {evidence.last.split} images: the predicted class's probability as the hottest pixels are"
        " put onto the mean colour (insertion: higher is better) or taken away (deletion: lower is better), the"
        " area under the curve with its standard error ([Petsiuk et al. 2018](https://arxiv.org/abs/1806.07421), where"
        " insertion begins with the blurred image)."
    )
    (method, layer), best = found[0]
    close = sum(
        best.insertion - one.insertion <= 2 * (best.insertion_error**2 + one.insertion_error**2) ** 0.5
        for _, one in found[1:]
    )
    document.text(
        f"Most faithful by insertion here: **{method}**"
        + (f" at **{escaped(layer)}**" if layer else "")
        + f". Within two standard errors of the difference: {close} of the {len(found) - 1} others."
    )
    document.table(["method", "layer", "insertion", "deletion"], rows)


def last_of_each_size(maps: Mapping[str, tuple[int, int, int]]) -> list[str]:
    """The last layer of each size of feature map, the last layer first.

    >>> last_of_each_size({"a": (2, 8, 8), "b": (4, 8, 8), "c": (4, 4, 4)})
    ['c', 'b']
    """
    last = {size: name for name, (_, *size_of) in maps.items() for size in [tuple(size_of)]}
    order = list(maps)
    return sorted(last.values(), key=order.index, reverse=True)


def write_neighbours(document: Document, evidence: Evidence, count: int) -> None:
    """For the worst mistakes, the training images that the network finds most alike."""
    document.heading("Training images most alike")
    if not evidence.sets or evidence.data is None:
        document.lacks("Nearest training images", "the run's data are not at hand")
        return
    places = worst_mistakes(evidence, count)
    if not len(places):
        document.text("There are no mistakes to explain.")
        return
    train, names = evidence.data.train_set, evidence.class_names
    try:
        found, alike = nearest_training(
            evidence.trained, pixels_of(evidence, places), train, _MOST_TRAINING, _NEIGHBOURS
        )
    except ValueError as error:
        document.lacks("Nearest training images", str(error))
        return
    pixels, captions = [], []
    predicted = evidence.logits[evidence.last.split][places].argmax(1)
    for row, place in enumerate(places.tolist()):
        label = names[int(evidence.last.labels[place])]
        pixels.append(pixels_of(evidence, places[row : row + 1]))
        captions.append(f"{label}\n→ {names[int(predicted[row])]}")
        pixels.append(train.images.pixels[found[row]])
        captions += [
            f"{names[label]}\n{similarity:.2f}"
            for label, similarity in zip(train.images.labels[found[row]].tolist(), alike[row].tolist(), strict=True)
        ]
    images: np.ndarray = torch.cat(pixels).permute(0, 2, 3, 1).numpy()
    document.text(
        "Each row begins with a misclassified image; beside it stand those of"
        f" {min(_MOST_TRAINING, len(train)):,} training images whose penultimate features are most alike (cosine"
        " similarity below): what the network may have learnt it from."
    )
    grid = image_grid(images, captions, 1 + found.shape[1], _TILE)
    document.picture("neighbours", grid, "Mistakes and their nearest neighbours")
