"""Images of the evaluation as tiles of a gallery, with or without heatmaps; two tabs show them."""

from collections.abc import Sequence
from typing import Any

import gradio as gr
import numpy as np
import torch

from callbacks.rendering.heatmaps import Method
from cifar_lit.evaluation.result import EvaluationResult
from space.app.image_cache import cached_image
from space.app.loaded_bundle import LoadedBundle
from space.app.middleware import Selected
from space.app.network import Network
from space.app.service import for_page, overlaid

ANY = "any class"
SENDING = "A click sends the image to *Classify*."


def judged_gallery(label: str, pictures: list[tuple[str, str]]) -> gr.Gallery:
    """A gallery of ``tiles``."""
    return gr.Gallery(
        value=pictures,
        visible=bool(pictures),
        label=label,
        format="png",
        columns=4,
        height="auto",
        object_fit="contain",
        interactive=False,
        allow_preview=False,
        buttons=[],
        elem_classes="pixels tiles",
    )


def tiles(
    network: Network,
    judged: EvaluationResult,
    rows: Sequence[int],
    layer: str | None = None,
    method: Method = "gradcam",
    opacity: float = 0.5,
    alike: bool = False,
) -> list[tuple[str, str]]:
    """Images with captions: true and predicted class, confidence, index.

    Args:
        network: Explains the images.
        judged: The evaluation.
        rows: Which of its kept images.
        layer: The feature map of the heatmaps; None for no heatmaps.
        method: How the heatmaps are made.
        opacity: Of the heatmaps.
        alike: Show the training images that the network finds most alike beside each.

    Returns:
        A PNG file and a caption for each; with heatmaps, the image stands left of those of the predicted and (if
        it is another) of the true class.
    """
    if not rows:
        return []
    places = np.array(rows)
    pixels = judged.pixels[places].permute(0, 2, 3, 1).numpy()
    labels, said = judged.labels[places].numpy(), judged.predictions[places].numpy()
    shares = network.probabilities(judged.logits[places].numpy())
    captions = [
        caption(network.class_names, int(true), int(predicted), float(share[predicted]), index, doubtful)
        for true, predicted, share, index, doubtful in zip(
            labels, said, shares, judged.indices[places].tolist(), judged.doubtful[places].tolist(), strict=True
        )
    ]
    pictures = list(for_page(pixels))
    if layer is not None:
        _, maps = network.run(pixels, len(pixels), np.stack([said, labels], 1), layer, method)
        pictures = [
            beside([picture, *overlaid(image, of_image[: 1 + int(true != predicted)], opacity)])
            for picture, image, of_image, true, predicted in zip(pictures, pixels, maps, labels, said, strict=True)
        ]
    if alike:
        for place, row in enumerate(rows):
            found = judged.neighbors[row]
            near = judged.training_pixels[found[found >= 0]].permute(0, 2, 3, 1).numpy()
            if len(near):
                pictures[place] = beside([pictures[place], *for_page(near)])
                labels_of = judged.training_labels[found[found >= 0]].tolist()
                captions[place] += " · alike: " + ", ".join(network.class_names[label] for label in labels_of)
    return list(zip(map(cached_image, pictures), captions, strict=True))


def caption(
    class_names: Sequence[str], true: int, predicted: int, confidence: float, index: int, doubtful: bool
) -> str:
    """What an image is, and what it was taken for.

    >>> caption(["cat", "dog"], 0, 1, 0.987, 42, doubtful=True)
    'cat → dog · 98.7% · #42 · label may be wrong'
    """
    kind = class_names[true] if true == predicted else f"{class_names[true]} → {class_names[predicted]}"
    return f"{kind} · {confidence:.1%} · #{index}" + " · label may be wrong" * doubtful


def beside(pictures: Sequence[np.ndarray], gap: int = 6) -> np.ndarray:
    """Pictures uint8 (H, w, 3) side by side, with white between them."""
    white = np.full((pictures[0].shape[0], gap, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (white, picture)][1:]
    return np.concatenate(parts, 1)


def rows_of(shown: LoadedBundle, true: int | None, predicted: int | None) -> list[int]:
    """The kept images of a true and a predicted class, the most confident first.

    Args:
        shown: Has an evaluation.
        true: The true class; None for any.
        predicted: The predicted class; None for any. Where both are any, or one is, only mistakes are meant.
    """
    judged = shown.judged
    assert judged is not None
    said = judged.predictions
    chosen = torch.ones_like(said, dtype=torch.bool)
    if true is None or predicted is None:
        chosen &= judged.labels != said
    if true is not None:
        chosen &= judged.labels == true
    if predicted is not None:
        chosen &= said == predicted
    rows = chosen.nonzero()[:, 0]
    confidence = judged.confidences(shown.network.recipe.temperature)[rows]
    found: list[int] = rows[confidence.argsort(descending=True, stable=True)].tolist()
    return found


def sent(shown: LoadedBundle, rows: Sequence[int], event: Selected) -> list[Any]:
    """The clicked image as the upload of the first tab, and that tab."""
    judged, place = shown.judged, event.index
    if judged is None or not isinstance(place, int) or not 0 <= place < len(rows):
        return [gr.skip(), gr.skip()]
    image = cached_image(judged.pixels[rows[place]].permute(1, 2, 0).numpy())
    return [gr.Tabs(selected="classify"), [(image, f"#{int(judged.indices[rows[place]])}")]]
