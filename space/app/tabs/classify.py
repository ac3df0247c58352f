"""The tab that classifies a visitor's images, and shows why."""

from dataclasses import replace
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from PIL import Image

from cifar_lit.inference.images import Fit
from space.app.image_cache import cached_image
from space.app.loaded_bundle import EXAMPLES, LoadedBundle
from space.app.middleware import Selected
from space.app.network import METHODS
from space.app.service import LIMITS, Answer, ExplainOptions, classify, read_images
from space.app.tabs.answers import Answers
from space.app.validation import MOST_BYTES, MOST_CLASSES, MOST_IMAGES, check_choice, check_int, check_number

FITS: dict[str, Fit] = {"cut at the centre": "crop", "pad with grey": "pad"}
_START = (
    f"**Drop up to {MOST_IMAGES} images here, or click an example.** Each is shown beside what the network really sees"
    " of it, with the likeliest classes; click a class to see what speaks for it.\n\n"
    f"An image is a {LIMITS} and {MOST_BYTES.upper()}."
)


class _Settings(NamedTuple):
    """What the controls say, unchecked, in the order of ``ClassifyTab.controls``."""

    top: Any
    fit: Any
    explain: Any
    first: Any
    layer: Any
    method: Any
    opacity: Any


class ClassifyTab:
    """Uploads and examples on one side, controls below them, answers on the other side.

    uploads: The images; other tabs put theirs here.
    """

    def __init__(self, shown: LoadedBundle) -> None:
        self.shown, self.network = shown, shown.network
        self._most_classes = min(MOST_CLASSES, len(self.network.class_names))
        self._answer = gr.State(None, time_to_live=3600)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=320, elem_classes="left"):
                self._build_uploads()
                with gr.Column(elem_classes="controls"):
                    self._build_controls()
            with gr.Column(scale=3, min_width=320, elem_classes="answers"):
                self._answers = Answers(shown, _START)
        self._listen()

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
        self._example_images = [
            np.asarray(Image.open(self.shown.folder / EXAMPLES / example["file"]).convert("RGB"))
            for example in self.shown.facts.examples
        ]
        self._examples = gr.Gallery(
            value=[cached_image(image) for image in self._example_images],
            label="Examples (each sets all controls)",
            format="png",
            columns=5,
            height="auto",
            object_fit="contain",
            interactive=False,
            allow_preview=False,
            visible=bool(self._example_images),
            buttons=[],
            elem_id="examples",
            elem_classes="pixels",
        )

    def _build_controls(self) -> None:
        most, layers = self._most_classes, self.network.layer_choices()
        with gr.Group():
            top = gr.Slider(1, most, min(5, most), step=1, label="Classes to list for each image")
            fit = gr.Radio(list(FITS), value=next(iter(FITS)), label="Images of another shape")
        with gr.Group(visible=bool(layers)):
            explain = gr.Checkbox(bool(layers), label="Show where the network looks (Grad-CAM)")
            first = gr.Slider(0, MOST_IMAGES, MOST_IMAGES, step=1, label="For how many images")
            layer = gr.Dropdown(
                layers, value=layers[0][1] if layers else None, label="Layer (name · channels x height x width)"
            )
            method = gr.Radio(list(METHODS), value=next(iter(METHODS)), label="Method")
            opacity = gr.Slider(0, 1, 0.5, step=0.05, label="Opacity of the heatmap")
        self._controls = _Settings(top, fit, explain, first, layer, method, opacity)

    def _listen(self) -> None:
        computing: dict[str, Any] = {"concurrency_id": "network", "concurrency_limit": 1, "api_visibility": "private"}
        computing["trigger_mode"] = "always_last"  # or what is changed while an earlier answer comes would be lost
        drawing: dict[str, Any] = {"show_progress": "hidden", **computing}
        controls, outputs = list(self._controls), [self._answer, *self._answers.outputs]
        asking, explaining = [self.uploads, *controls], [self._answer, *controls]
        gr.on([self._button.click, self._controls.fit.input], self._classify, asking, outputs, **computing)
        # Also what comes from the camera, of which `upload` hears nothing
        self.uploads.change(self._classify_if_new, [self._answer, *asking], outputs, **computing)
        self._examples.select(self._take_example, None, asking, api_visibility="private").then(
            self._classify, asking, outputs, **computing
        )
        heat = (self._controls.explain, self._controls.first, self._controls.layer, self._controls.method)
        gr.on([control.input for control in heat], self._explain, explaining, outputs, **drawing)
        self._controls.top.input(self._draw, explaining, outputs, **drawing)
        self._controls.opacity.input(
            self._recompose, [self._answer, self._controls.opacity], self._answers.overlays, **drawing
        )
        for place, classes in enumerate(self._answers.lists):
            classes.select(self._asker(place), explaining, outputs, **computing)

    def answer_after(self, event: Any) -> None:
        """Classifies what another tab's event puts into the uploads, which, out of sight, report no change."""
        event.then(
            self._classify_if_new,
            [self._answer, self.uploads, *self._controls],
            [self._answer, *self._answers.outputs],
            concurrency_id="network",
            concurrency_limit=1,
            api_visibility="private",
        )

    # What happens when; each gives the updates of the answer and of where it is shown

    def _classify(self, uploads: list[tuple[str, str | None]] | None, *controls: Any) -> list[Any]:
        settings = _Settings(*controls)
        fit = FITS[check_choice("The fit", settings.fit, FITS)]
        images = read_images([path for path, _ in uploads or []], self.network.recipe.image_size, fit)
        if not images.numbers:
            return [None, *self._answers.drawn(None, refused="\n\n".join(images.refused))]
        return self._draw(classify(self.network, images, self._explaining(settings)), *controls)

    def _classify_if_new(
        self, answer: Answer | None, uploads: list[tuple[str, str | None]] | None, *controls: Any
    ) -> list[Any]:
        paths = [path for path, _ in uploads or []]
        if answer is not None and answer.images.paths == paths:
            return [gr.skip()] * (1 + len(self._answers.outputs))
        return self._classify(uploads, *controls)

    def _explain(self, answer: Answer | None, *controls: Any) -> list[Any]:
        explaining = self._explaining(_Settings(*controls))
        return self._draw(None if answer is None else answer.explain(self.network, explaining), *controls)

    def _asker(self, place: int) -> Any:
        """Explains the class that was clicked in the list of the image at that place."""

        def ask(event: Selected, answer: Answer | None, *controls: Any) -> list[Any]:
            names = self.network.class_names
            if answer is not None and place < len(answer.logits):
                asked = names.index(check_choice("The class", event.value, names))
                answer = replace(answer, asked={**answer.asked, place: asked})
            return self._explain(answer, *controls)

        return ask

    def _draw(self, answer: Answer | None, *controls: Any) -> list[Any]:
        settings = _Settings(*controls)
        top = check_int("The number of classes", settings.top, 1, self._most_classes)
        return [answer, *self._answers.drawn(answer, top, check_number("The opacity", settings.opacity, 0, 1))]

    def _recompose(self, answer: Answer | None, opacity: Any) -> list[Any]:
        return self._answers.overlays_drawn(answer, check_number("The opacity", opacity, 0, 1))

    def _take_example(self, event: Selected) -> list[Any]:
        place = check_int("The example", event.index, 0, len(self._example_images) - 1)
        example = self.shown.facts.examples[place]
        fit = next(name for name, value in FITS.items() if value == example["fit"])
        method = next(name for name, value in METHODS.items() if value == example["method"])
        layer = example["layer"] if example["layer"] in self.network.layers else None
        return [
            [(cached_image(self._example_images[place]), None)],
            example["classes"],
            fit,
            layer is not None,
            1,
            layer,
            method,
            example["opacity"],
        ]

    def _explaining(self, settings: _Settings) -> ExplainOptions:
        if not self.network.layers:
            return ExplainOptions()
        layer = check_choice("The layer", settings.layer, self.network.layers)
        method = METHODS[check_choice("The method", settings.method, METHODS)]
        first = check_int("The number of images", settings.first, 0, MOST_IMAGES) if settings.explain is True else 0
        return ExplainOptions(first, layer, method)
