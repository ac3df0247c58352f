"""The tab that classifies a visitor's images, and shows why."""

from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import numpy as np

from cifar_lit.images import Fit
from space.answer import Answer, Images, classify, for_page, read_images
from space.controls import MOST_CLASSES, MOST_IMAGES, fraction, one_of, whole
from space.network import METHODS, flagged
from space.shown import EXAMPLES, Shown
from space.table import predictions_link, predictions_of, predictions_table

_FITS: dict[str, Fit] = {"cut at the centre": "crop", "pad with grey": "pad"}
_START = (
    "**Drop up to 10 images here, or click an example.** Each is shown beside what the network really sees of it, with"
    " the likeliest classes; click a class to see what speaks for it."
)
_LEGEND = (
    "Bright parts speak most for the class, dark ones least; each heatmap is scaled by itself. **Click another class in"
    " an image's list** to see what speaks for that one beside the predicted one."
)


@dataclass(frozen=True)
class _Slot:
    """Where one image's answer is shown."""

    group: gr.Column
    word: gr.Markdown
    upload: gr.Image
    seen: gr.Image
    why: gr.Image
    why_asked: gr.Image
    classes: gr.Label

    @property
    def parts(self) -> list[Any]:
        return [self.group, self.word, self.upload, self.seen, self.why, self.why_asked, self.classes]


class ClassifyTab:
    """Uploads and examples on one side, controls below them, answers on the other side.

    uploads: The images; other tabs put theirs here.
    """

    def __init__(self, shown: Shown) -> None:
        self.shown, self.network = shown, shown.network
        self.most_classes = min(MOST_CLASSES, len(self.network.class_names))
        self._layers = dict(self.network.layer_choices())
        self._answer = gr.State(None)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=320, elem_classes="left"):
                self._build_uploads()
                with gr.Column(elem_classes="controls"):
                    self._build_controls()
            with gr.Column(scale=3, min_width=320, elem_classes="answers"):
                self._status = gr.Markdown(_START, elem_classes="status")
                self._slots = [self._build_slot(number) for number in range(1, MOST_IMAGES + 1)]
                self._legend = gr.Markdown(_LEGEND, visible=False, elem_classes="faint")
                with gr.Accordion("All results as a table", open=False, visible=False) as self._all:
                    self._table = gr.Dataframe(interactive=False, show_label=False, wrap=True)
                    self._link = gr.HTML()
        self._outputs = [
            self._answer,
            self._status,
            *(part for slot in self._slots for part in slot.parts),
            self._legend,
            self._all,
            self._table,
            self._link,
        ]
        self._listen()

    # What it looks like

    def _build_uploads(self) -> None:
        self.uploads = gr.Gallery(
            label=f"Your images (up to {MOST_IMAGES})",
            file_types=["image"],
            sources=["upload", "webcam", "clipboard"],
            type="filepath",
            format="png",
            columns=5,
            height=230,
            object_fit="contain",
            interactive=True,
            allow_preview=False,
            elem_id="uploads",
        )
        self._button = gr.Button("Classify", variant="primary")
        files = [str(self.shown.folder / EXAMPLES / example["file"]) for example in self.shown.facts.examples]
        self._examples = gr.Gallery(
            value=files,
            label="Examples (each sets all controls)",
            format="png",
            columns=5,
            height="auto",
            object_fit="contain",
            interactive=False,
            allow_preview=False,
            visible=bool(files),
            buttons=[],
            elem_id="examples",
            elem_classes="pixels",
        )

    def _build_controls(self) -> None:
        most = self.most_classes
        with gr.Group():
            self._top = gr.Slider(1, most, min(5, most), step=1, label="Classes to list for each image")
            self._fit = gr.Radio(
                list(_FITS), value=next(iter(_FITS)), label="Images that are not square, or of another shape"
            )
        with gr.Group(visible=bool(self._layers)):
            self._explain = gr.Checkbox(bool(self._layers), label="Show where the network looks (Grad-CAM)")
            self._first = gr.Slider(0, MOST_IMAGES, MOST_IMAGES, step=1, label="For how many images")
            self._layer = gr.Dropdown(
                list(self._layers.items()),
                value=next(iter(self._layers.values()), None),
                label="Layer (name · channels x height x width)",
            )
            self._method = gr.Radio(list(METHODS), value=next(iter(METHODS)), label="Method")
            self._opacity = gr.Slider(0, 1, 0.5, step=0.05, label="Opacity of the heatmap")

    def _build_slot(self, number: int) -> _Slot:
        size = "x".join(map(str, self.network.recipe.image_size))
        picture: dict[str, Any] = {"format": "png", "interactive": False, "height": 200, "min_width": 140, "scale": 1}
        with gr.Column(visible=False, elem_classes="answer") as group:
            word = gr.Markdown(elem_classes="word")
            with gr.Row(equal_height=False):
                upload = gr.Image(label=f"Image {number}", buttons=[], **picture)
                seen, why, why_asked = (
                    gr.Image(label=label, buttons=["download"], elem_classes="pixels", visible=visible, **picture)
                    for label, visible in ((f"Seen at {size}", True), ("Why?", False), ("Why?", False))
                )
                classes = gr.Label(label="Likeliest classes", show_heading=False, scale=2, min_width=230)
        return _Slot(group, word, upload, seen, why, why_asked, classes)

    # What it does

    @property
    def _heat_controls(self) -> list[Any]:
        return [self._explain, self._first, self._layer, self._method]

    @property
    def _controls(self) -> list[Any]:
        return [self._top, self._fit, *self._heat_controls, self._opacity]

    def _listen(self) -> None:
        computing: dict[str, Any] = {"concurrency_id": "network", "concurrency_limit": 1, "api_visibility": "private"}
        drawing: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last", **computing}
        everything = [self.uploads, *self._controls]
        gr.on(
            [self._button.click, self.uploads.upload, self.uploads.delete, self._fit.input],
            self.classify,
            everything,
            self._outputs,
            **computing,
        )
        gr.on(
            [control.input for control in self._heat_controls],
            self._explain_again,
            [self._answer, *self._controls],
            self._outputs,
            **drawing,
        )
        gr.on(
            [self._opacity.input, self._top.input],
            self._draw_again,
            [self._answer, self._top, self._opacity],
            self._outputs,
            **drawing,
        )
        self._examples.select(self._take_example, None, everything, api_visibility="private").then(
            self.classify, everything, self._outputs, **computing
        )
        for place, slot in enumerate(self._slots):
            slot.classes.select(self._asker(place), [self._answer, *self._controls], self._outputs, **computing)

    def show(self, event: Any) -> None:
        """Classifies what another tab's event has put into the uploads, once it has."""
        event.then(
            self.classify,
            [self.uploads, *self._controls],
            self._outputs,
            concurrency_id="network",
            api_visibility="private",
        )

    def classify(
        self,
        uploads: list[tuple[str, str | None]] | None,
        top: Any,
        fit: Any,
        explain: Any,
        first: Any,
        layer: Any,
        method: Any,
        opacity: Any,
    ) -> list[Any]:
        """Answers for the uploads, the updates of all outputs."""
        paths = [path for path, _ in uploads or []]
        fit = _FITS[one_of("The fit", fit, _FITS)]
        images = read_images(paths, self.network.recipe.image_size, fit)
        if not images.numbers:
            return self._draw(None, "\n\n".join(images.refused) or _START, 1, 0)
        answer = classify(self.network, images)
        return self._explained(answer, top, explain, first, layer, method, opacity)

    def _explain_again(
        self, answer: Answer | None, top: Any, fit: Any, explain: Any, first: Any, layer: Any, method: Any, opacity: Any
    ) -> list[Any]:
        if answer is None:
            return self._draw(None, _START, 1, 0)
        return self._explained(answer, top, explain, first, layer, method, opacity)

    def _explained(
        self, answer: Answer, top: Any, explain: Any, first: Any, layer: Any, method: Any, opacity: Any
    ) -> list[Any]:
        if self._layers:
            layer = one_of("The layer", layer, self._layers.values())
            method = METHODS[one_of("The method", method, METHODS)]
            first = whole("The number of images", first, 0, MOST_IMAGES) if explain is True else 0
            answer = answer.explain(self.network, first, layer, method)
        return self._draw_again(answer, top, opacity)

    def _draw_again(self, answer: Answer | None, top: Any, opacity: Any) -> list[Any]:
        top = whole("The number of classes", top, 1, self.most_classes)
        opacity = fraction("The opacity", opacity, 0, 1)
        return self._draw(answer, _START if answer is None else _summary(answer.images), top, opacity)

    def _asker(self, place: int) -> Any:
        """Explains the class that was clicked in the list of the image at that place."""

        def ask(
            answer: Answer | None,
            top: Any,
            fit: Any,
            explain: Any,
            first: Any,
            layer: Any,
            method: Any,
            opacity: Any,
            event: gr.SelectData,
        ) -> list[Any]:
            names = self.network.class_names
            if answer is None or place >= len(answer.asked) or event.value not in names:
                return self._draw_again(answer, top, opacity)
            asked = [*answer.asked]
            asked[place] = names.index(event.value)
            return self._explained(replace(answer, asked=asked), top, explain, first, layer, method, opacity)

        return ask

    def _take_example(self, event: gr.SelectData) -> list[Any]:
        example = self.shown.facts.examples[whole("The example", event.index, 0, len(self.shown.facts.examples) - 1)]
        fit = next(name for name, value in _FITS.items() if value == example["fit"])
        method = next(name for name, value in METHODS.items() if value == example["method"])
        layer = example["layer"] if example["layer"] in self._layers.values() else None
        file = str(self.shown.folder / EXAMPLES / example["file"])
        return [[file], example["classes"], fit, layer is not None, 1, layer, method, example["opacity"]]

    # How an answer is shown

    def _draw(self, answer: Answer | None, status: str, top: int, opacity: float) -> list[Any]:
        count = 0 if answer is None else len(answer.logits)
        slots = [self._drawn_slot(answer, place, top, opacity) for place in range(count)]
        hidden = gr.Image(None, visible=False)
        empty = [gr.Column(visible=False), None, None, None, hidden, hidden, None]
        updates = [update for slot in slots for update in slot] + empty * (MOST_IMAGES - count)
        explained = answer is not None and bool(answer.explained)
        table = [gr.Accordion(visible=False), None, ""]
        if answer is not None:
            predictions = predictions_of(answer, self.network, self.shown.facts.unknown, top)
            table = [gr.Accordion(visible=True), predictions_table(predictions), predictions_link(predictions)]
        return [answer, status, *updates, gr.Markdown(visible=explained and bool(self._layers)), *table]

    def _drawn_slot(self, answer: Answer | None, place: int, top: int, opacity: float) -> list[Any]:
        assert answer is not None
        shares = self.network.probabilities(answer.logits[place : place + 1])[0]
        names = self.network.class_names
        likeliest = {names[label]: float(shares[label]) for label in np.argsort(-shares, kind="stable")[:top]}
        strange = flagged(self.shown.facts.unknown, answer.logits[place : place + 1])[0]
        hidden = gr.Image(None, visible=False)
        why = [
            gr.Image(overlay, label=f"Why {names[label]}? ({shares[label]:.1%})", visible=True)
            for overlay, label in answer.overlays(place, opacity)
        ]
        return [
            gr.Column(visible=True),
            _NONE_OF_THEM if strange else "",
            gr.Image(for_page(answer.images.uploads[place][None])[0], label=f"Image {answer.images.numbers[place]}"),
            for_page(answer.images.pixels[place : place + 1])[0],
            *why,
            *[hidden] * (2 - len(why)),
            likeliest,
        ]


_NONE_OF_THEM = "⚠️ **Probably none of the classes**: the network sees little of any of them here."


def _summary(images: Images) -> str:
    count = len(images.numbers)
    return "\n\n".join([f"**{count} image{'s' * (count != 1)} classified.**", *images.refused])
