"""Where the answers stand on the page: a box for each image, and all of them as a table."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from space.app.image_cache import cached_image
from space.app.loaded_bundle import LoadedBundle
from space.app.network import Network
from space.app.service import Answer, for_page
from space.app.table import Prediction, predictions_link, predictions_of, predictions_table
from space.app.validation import MOST_IMAGES

_LEGEND = (
    "Bright parts speak most for the class, dark ones least; each heatmap is scaled by itself. **Click another class in"
    " an image's list** to see what speaks for that one beside the predicted one."
)
_NONE_OF_THEM = "⚠️ **Probably none of the classes**: the network sees little of any of them here."


@dataclass(frozen=True)
class _Box:
    """Where one image's answer is shown."""

    box: gr.Column
    word: gr.Markdown
    upload: gr.Image
    seen: gr.Image
    why: gr.Image
    why_asked: gr.Image
    classes: gr.Label


class Answers:
    """Ten boxes, as many of them shown as there are images, and a table.

    outputs: The components that ``drawn`` updates.
    overlays: Those that ``overlays_drawn`` updates.
    lists: The lists of classes, one for each box.
    """

    def __init__(self, shown: LoadedBundle, start: str) -> None:
        self._unknown, self._network, self._start = shown.facts.unknown, shown.network, start
        self._status = gr.Markdown(start, elem_classes="status")
        boxes = [_box(number, shown.network) for number in range(1, MOST_IMAGES + 1)]
        legend = gr.Markdown(_LEGEND, visible=False, elem_classes="faint")
        with gr.Accordion("All results as a table", open=False, visible=False) as whole:
            table = gr.Dataframe(interactive=False, show_label=False, wrap=True)
            link = gr.HTML()
        self.lists = [box.classes for box in boxes]
        self.overlays = [part for box in boxes for part in (box.why, box.why_asked)]
        self.outputs = [self._status, *(part for box in boxes for part in vars(box).values())]
        self.outputs += [legend, whole, table, link]

    def drawn(self, answer: Answer | None, top: int = 1, opacity: float = 0.5, refused: str = "") -> list[Any]:
        """Updates of ``outputs``.

        Args:
            answer: The images; None for none.
            top: How many classes to list for each.
            opacity: Of the heatmaps.
            refused: Why there is no answer.
        """
        hidden = [gr.Column(visible=False), None, None, None, *_hidden(), *_hidden(), None]
        if answer is None:
            nothing = [gr.Markdown(visible=False), gr.Accordion(visible=False), None, ""]
            return [refused or self._start, *hidden * MOST_IMAGES, *nothing]
        predictions = predictions_of(answer, self._network, self._unknown, top)
        boxes = [
            update
            for place, prediction in enumerate(predictions)
            for update in self._drawn_box(answer, place, prediction, opacity)
        ]
        return [
            _summary(answer),
            *boxes,
            *hidden * (MOST_IMAGES - len(predictions)),
            gr.Markdown(visible=bool(answer.explained)),
            gr.Accordion(visible=True),
            predictions_table(predictions),
            predictions_link(predictions),
        ]

    def overlays_drawn(self, answer: Answer | None, opacity: float) -> list[Any]:
        """Updates of ``overlays`` alone, at another opacity; what is not shown is left as it is."""
        updates: list[Any] = []
        for place in range(MOST_IMAGES):
            found = [] if answer is None else answer.overlays(place, opacity)
            updates += [*(cached_image(overlay) for overlay, _ in found), *[gr.skip()] * (2 - len(found))]
        return updates

    def _drawn_box(self, answer: Answer, place: int, prediction: Prediction, opacity: float) -> list[Any]:
        shares = self._network.probabilities(answer.logits[place : place + 1])[0]
        why = [
            gr.Image(
                cached_image(overlay),
                label=f"Why {self._network.class_names[label]}? {shares[label]:.1%}",
                visible=True,
            )
            for overlay, label in answer.overlays(place, opacity)
        ]
        return [
            gr.Column(visible=True),
            _NONE_OF_THEM if prediction.strange else "",
            gr.Image(cached_image(for_page(answer.images.uploads[place][None])[0]), label=f"Image {prediction.number}"),
            cached_image(for_page(answer.images.pixels[place : place + 1])[0]),
            *why,
            *_hidden() * (2 - len(why)),
            dict(prediction.likeliest),
        ]


def _box(number: int, network: Network) -> _Box:
    height, width = network.recipe.image_size
    picture: dict[str, Any] = {"format": "png", "interactive": False, "height": 200, "min_width": 140, "scale": 1}
    with gr.Column(visible=False, elem_classes="answer") as box:
        word = gr.Markdown(elem_classes="word")
        with gr.Row(equal_height=False):
            upload = gr.Image(label=f"Image {number}", buttons=[], **picture)
            seen, why, why_asked = (
                gr.Image(label=label, buttons=["download"], elem_classes="pixels", visible=visible, **picture)
                for label, visible in ((f"Seen at {width}x{height}", True), ("Why?", False), ("Why?", False))
            )
            classes = gr.Label(label="Likeliest classes", show_heading=False, scale=2, min_width=230)
    return _Box(box, word, upload, seen, why, why_asked, classes)


def _hidden() -> list[gr.Image]:
    return [gr.Image(None, visible=False)]


def _summary(answer: Answer) -> str:
    count = len(answer.logits)
    return "\n\n".join([f"**{count} image{'s' * (count != 1)} classified.**", *answer.images.refused])
