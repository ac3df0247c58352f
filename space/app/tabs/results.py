"""Results of an upload: a box for each image, and a table of all of them."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import gradio as gr
import pandas as pd

from cifar_lit.csv_text import csv_text
from space.app.bundle_metadata import SPLIT_NAMES
from space.app.image_cache import cached_image
from space.app.service import ImageResult, Network, UploadResult, enlarge
from space.app.validation import MAX_IMAGES

_LEGEND = (
    "Bright: strong evidence for the class; dark: little. Each heatmap is scaled separately. **Click another class in"
    " an image's list** to see the evidence for it."
)


@dataclass(frozen=True)
class _Box:
    """The components of one image's result."""

    box: gr.Column
    answer: gr.HTML
    upload: gr.Image
    pixels: gr.Image
    heatmap: gr.Image
    selected_heatmap: gr.Image
    classes: gr.Label


class ResultsView:
    """One box per image, unused ones hidden, and a table.

    outputs: The components that ``updates`` updates.
    overlays: The components that ``overlay_updates`` updates.
    lists: The list of classes in each box.
    """

    def __init__(self, network: Network, placeholder: str) -> None:
        self._network, self._names, self._placeholder = network, network.class_names, placeholder
        self._status = gr.Markdown(placeholder, elem_classes="status")
        boxes = [_box(number, network) for number in range(1, MAX_IMAGES + 1)]
        legend = gr.Markdown(_LEGEND, visible=False, elem_classes="faint")
        with gr.Accordion("All results as a table", open=False, visible=False) as accordion:
            table = gr.Dataframe(interactive=False, show_label=False, wrap=True)
            link = gr.HTML()
        self.lists = [box.classes for box in boxes]
        self.overlays = [image for box in boxes for image in (box.heatmap, box.selected_heatmap)]
        self.outputs = [self._status, *(component for box in boxes for component in vars(box).values())]
        self.outputs += [legend, accordion, table, link]

    def updates(self, result: UploadResult | None, count: int = 1, opacity: float = 0.5) -> list[Any]:
        """Return updates of ``outputs``.

        Args:
            result: The result; None if nothing has been classified.
            count: Number of classes to list for each image.
            opacity: Opacity of the heatmaps.
        """
        images, errors = ([], []) if result is None else (result.images, result.errors)
        unknown = sum(bool(image.is_ood) for image in images)
        note = f" {unknown} may be none of the classes." if unknown and len(images) > 1 else ""
        status = [f"**{len(images)} image{'s' * (len(images) != 1)} classified.**{note}"] if images else []
        if result is not None and result.origin:
            status = [result.origin]
        errors = [f'<span class="error">{error}</span>' for error in errors]
        true_label = None if result is None else result.true_label
        boxes = [update for image in images for update in self._box_updates(image, true_label, count, opacity)]
        hidden = [gr.Column(visible=False), "", None, None, *_hidden(), *_hidden(), None]
        return [
            "\n\n".join(status + errors) or self._placeholder,
            *boxes,
            *hidden * (MAX_IMAGES - len(images)),
            gr.Markdown(visible=any(image.heatmaps for image in images)),
            gr.Accordion(visible=bool(images)),
            results_table(images, self._names, count) if images else None,
            csv_link(images, self._names, count) if images else "",
        ]

    def overlay_updates(self, result: UploadResult | None, opacity: float) -> list[Any]:
        """Return updates of ``overlays`` at another opacity; hidden ones are skipped."""
        updates: list[Any] = []
        for image in [] if result is None else result.images:
            overlays = [cached_image(overlay) for _, overlay in image.overlays(opacity)]
            updates += [*overlays, *[gr.skip()] * (2 - len(overlays))]
        return updates + [gr.skip()] * (2 * MAX_IMAGES - len(updates))

    def _box_updates(self, image: ImageResult, true_label: int | None, count: int, opacity: float) -> list[Any]:
        heatmaps = [
            gr.Image(cached_image(overlay), label=f"Evidence for {self._names[label]}", visible=True)
            for label, overlay in image.overlays(opacity)
        ]
        return [
            gr.Column(visible=True),
            answer_html(image, self._network, true_label),
            gr.Image(cached_image(enlarge(image.upload)), label=f"Image {image.number}"),
            cached_image(enlarge(image.pixels)),
            *heatmaps,
            *_hidden() * (2 - len(heatmaps)),
            dict(image.top_classes(self._names, count)),
        ]


def answer_html(image: ImageResult, network: Network, true_label: int | None) -> str:
    """Return the predicted class, its confidence, and the true class if it is known.

    Add a note if the image is flagged as out-of-distribution.
    """
    confidence = f"{image.probs[image.predicted]:.0%}"
    lines = [f"<h2>{html.escape(network.class_names[image.predicted])} <span>{confidence}</span></h2>"]
    if true_label is not None:
        verdict = "correct" if true_label == image.predicted else f"true class: {network.class_names[true_label]}"
        lines.append(f"<p>{html.escape(verdict)}</p>")
    threshold = network.ood_threshold
    if image.is_ood and threshold is not None:
        share = f"About {threshold.false_alarms:.0%}" if threshold.false_alarms >= 0.005 else "Fewer than 1%"
        lines.append(
            f'<p class="ood">This may be none of the classes. {share} of the'
            f" {SPLIT_NAMES[threshold.evaluated_on]} images, which all belong to a class, are flagged like this by"
            f" mistake. The confidence of {confidence} only compares the classes with each other.</p>"
        )
    return "".join(lines)


def results_table(images: Sequence[ImageResult], class_names: Sequence[str], count: int) -> pd.DataFrame:
    """Return a row for each image with its most likely classes."""
    rows = []
    for image in images:
        row: dict[str, object] = {"image": image.number}
        top = image.top_classes(class_names, count)
        row |= {str(rank): f"{name} {prob:.1%}" for rank, (name, prob) in enumerate(top, start=1)}
        if image.is_ood is not None:
            row["none of the classes"] = "possibly" if image.is_ood else ""
        rows.append(row)
    return pd.DataFrame(rows)


def csv_link(images: Sequence[ImageResult], class_names: Sequence[str], count: int) -> str:
    """Return an HTML link that contains the table as CSV, so that the server stores nothing."""
    ranks = range(1, min(count, len(class_names)) + 1)
    columns = (f"{column}_{rank}" for rank in ranks for column in ("class", "probability"))
    rows: list[list[Any]] = [["image", *columns, "possibly_none_of_the_classes"]]
    for image in images:
        cells = [cell for name, prob in image.top_classes(class_names, count) for cell in (name, f"{prob:.6f}")]
        rows.append([image.number, *cells, "" if image.is_ood is None else image.is_ood])
    url = f"data:text/csv;charset=utf-8,{quote(csv_text(rows))}"
    return f'<a class="download" download="predictions.csv" href="{url}">Download as CSV</a>'


def _box(number: int, network: Network) -> _Box:
    height, width = network.recipe.image_size
    options: dict[str, Any] = {"format": "png", "interactive": False, "height": 200, "min_width": 130, "scale": 1}
    with gr.Column(visible=False, elem_classes="answer") as box:
        answer = gr.HTML(elem_classes="headline")
        with gr.Row(equal_height=False):
            upload = gr.Image(label=f"Image {number}", buttons=[], **options)
            pixels, heatmap, selected_heatmap = (
                gr.Image(label=label, buttons=["download"], elem_classes="pixels", visible=visible, **options)
                for label, visible in ((f"Network input, {width}x{height}", True), ("", False), ("", False))
            )
            classes = gr.Label(label="Most likely classes", show_heading=False, scale=2, min_width=230)
    return _Box(box, answer, upload, pixels, heatmap, selected_heatmap, classes)


def _hidden() -> list[gr.Image]:
    return [gr.Image(None, visible=False)]
