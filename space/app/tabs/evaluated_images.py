"""Evaluated images as captioned tiles of a gallery, for two tabs."""

import math
from collections.abc import Sequence
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image, ImageDraw

from callbacks.rendering.fonts_and_colors import drawable
from callbacks.rendering.grid import GAP
from callbacks.rendering.overlay import overlay
from space.app.image_cache import cached_image
from space.app.loaded_bundle import LoadedBundle
from space.app.request_allowlist import Selected
from space.app.service import ExplainOptions, enlarge
from space.app.tabs.classify import COMPUTING, ClassifyTab

ANY = "any class"
CLICK_HINT = "Click an image to open it in *Classify*."
# Heading band of a comparison, legible in both themes
_HEAD_LINE, _HEAD_COLOR, _HEAD_SIZE = 32, "#334155", 24
_MAX_COLUMNS = 3  # of a comparison, so that a phone shows all of it


def tile_gallery(pictures: list[tuple[str, str]], label: str = "", compare: bool = False) -> gr.Gallery:
    """Return a gallery of ``tiles``, or an update of one.

    Args:
        pictures: The tiles.
        label: The heading.
        compare: Whether a tile consists of several pictures.
    """
    return gr.Gallery(
        value=pictures,
        visible=bool(pictures),
        label=label,
        format="png",
        columns=3 if compare else 4,
        height="auto",
        object_fit="contain",
        interactive=False,
        allow_preview=False,
        buttons=[],
        elem_classes=["tiles", "comparisons" if compare else "pixels"],
    )


def tiles(
    loaded: LoadedBundle,
    rows: Sequence[int],
    heatmaps: ExplainOptions | None = None,
    opacity: float = 0.5,
    neighbors: bool = False,
) -> list[tuple[str, str]]:
    """Return a PNG file and a caption for each image.

    Args:
        loaded: A bundle with an evaluation.
        rows: Rows of the evaluation's images.
        heatmaps: Layer and method of heatmaps for the predicted and, if different, the true class, to show next to
            each image; None for no heatmaps.
        opacity: Opacity of the heatmaps.
        neighbors: Show the most similar training images next to each image.
    """
    network, evaluation = loaded.network, loaded.evaluation
    assert evaluation is not None
    if not rows:
        return []
    pixels = evaluation.pixels[list(rows)].permute(0, 2, 3, 1).numpy()
    labels, predicted = evaluation.labels[list(rows)].tolist(), evaluation.predictions[list(rows)].tolist()
    confidences = evaluation.confidences(network.recipe.temperature)
    names = network.class_names
    columns = [[("image", enlarge(image))] for image in pixels]
    captions = []
    for row, true, label in zip(rows, labels, predicted, strict=True):
        name = names[true] if true == label else f"{names[true]} → {names[label]}"
        note = " · label may be wrong" * bool(evaluation.label_issue[row])
        captions.append(f"{name} · {confidences[row]:.1%} · #{evaluation.indices[row]}{note}")
    if heatmaps is not None:
        classes = np.array([predicted, labels]).T
        _, maps, _ = network.run(pixels, len(pixels), classes, heatmaps.layer, heatmaps.method)
        for index, of_image in enumerate(maps):
            columns[index] += [
                (f"evidence for\n{names[label]}", enlarge(overlay(pixels[index], heatmap, opacity)))
                for label, heatmap in dict(zip(classes[index].tolist(), of_image, strict=True)).items()
            ]
    if neighbors:
        for index, row in enumerate(rows):
            found = evaluation.neighbors[row][evaluation.neighbors[row] >= 0]
            if len(found):
                heads = [f"similar:\n{names[label]}" for label in evaluation.training_labels[found].tolist()]
                similar = map(enlarge, evaluation.training_pixels[found].permute(0, 2, 3, 1).numpy())
                columns[index] += zip(heads, similar, strict=True)
    return [(cached_image(comparison(images)), text) for images, text in zip(columns, captions, strict=True)]


def comparison(images: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """Return images uint8 (H, W, 3) in rows, each below up to two lines of text; return a single one unchanged."""
    if len(images) == 1:
        return images[0][1]
    height, width = images[0][1].shape[:2]
    rows = math.ceil(len(images) / _MAX_COLUMNS)
    columns, head_height = math.ceil(len(images) / rows), 2 * _HEAD_LINE + GAP
    canvas = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (head_height + height)), _HEAD_COLOR)
    draw = ImageDraw.Draw(canvas)
    for index, (head, image) in enumerate(images):
        x, y = index % columns * (width + GAP), index // columns * (head_height + height)
        canvas.paste(Image.fromarray(image), (x, y + head_height))
        lines = head.split("\n")
        for number, line in enumerate(lines):
            text, face = drawable(line, _HEAD_SIZE, width=width)
            middle = y + head_height / 2 + (number - (len(lines) - 1) / 2) * _HEAD_LINE
            draw.text((x + width / 2, middle), text, "white", face, anchor="mm")
    return np.asarray(canvas)


def select_rows(loaded: LoadedBundle, true: int | None, predicted: int | None) -> list[int]:
    """Return the rows of the images of a true and a predicted class, the most confident first.

    Args:
        loaded: A bundle with an evaluation.
        true: The true class; None for mistakes of any class.
        predicted: The predicted class; None for mistakes of any class.
    """
    evaluation = loaded.evaluation
    assert evaluation is not None
    predictions, labels = evaluation.predictions, evaluation.labels
    selected = torch.ones_like(labels, dtype=torch.bool)
    if true is None or predicted is None:
        selected &= labels != predictions
    if true is not None:
        selected &= labels == true
    if predicted is not None:
        selected &= predictions == predicted
    rows = selected.nonzero()[:, 0]
    confidence = evaluation.confidences(loaded.network.recipe.temperature)[rows]
    ordered: list[int] = rows[confidence.argsort(descending=True, stable=True)].tolist()
    return ordered


def open_in_classify(
    loaded: LoadedBundle, gallery: gr.Gallery, rows: gr.State, tabs: gr.Tabs, classify: ClassifyTab
) -> None:
    """Classify a clicked image in the Classify tab.

    Args:
        loaded: A bundle with an evaluation.
        gallery: The gallery of the images.
        rows: The rows of the evaluation's images in the gallery.
        tabs: The tabs of the page.
        classify: The Classify tab.
    """
    evaluation = loaded.evaluation

    def handler(event: Selected, shown: list[int], *controls: Any) -> list[Any]:
        if evaluation is None or not isinstance(event.index, int) or not 0 <= event.index < len(shown):
            return [gr.skip()] * (1 + len(classify.outputs))
        row = shown[event.index]
        path = cached_image(evaluation.pixels[row].permute(1, 2, 0).numpy())
        origin = f"**Image #{int(evaluation.indices[row])}** of the {evaluation.split} images."
        return [gr.Tabs(selected="classify"), *classify.open(path, origin, int(evaluation.labels[row]), *controls)]

    gallery.select(handler, [rows, *classify.controls], [tabs, *classify.outputs], **COMPUTING)
