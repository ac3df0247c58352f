"""The tab that classifies and explains uploaded images."""

from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from PIL import Image

from cifar_lit.inference.images import Fit
from space.app.bundle_metadata import EXAMPLES
from space.app.image_cache import cached_image
from space.app.loaded_bundle import LoadedBundle
from space.app.middleware import Selected
from space.app.service import LIMITS, METHODS, ExplainOptions, UploadResult, classify, explain
from space.app.tabs.results import ResultsView
from space.app.validation import MAX_CLASSES, MAX_IMAGES, check_choice, check_int, check_number

FITS: dict[str, Fit] = {"crop the center": "crop", "pad with gray": "pad"}
_PLACEHOLDER = (
    f"**Drop up to {MAX_IMAGES} images here, or click an example.** You get the network's input, the most likely"
    " classes and a heatmap; click a class to see the evidence for it.\n\n"
    f"Each image must be a {LIMITS}."
)


class _Settings(NamedTuple):
    """The unchecked values of the controls, in the order of the components."""

    top: Any
    fit: Any
    explain: Any
    count: Any
    layer: Any
    method: Any
    opacity: Any


class ClassifyTab:
    """Uploads, examples and controls on the left, results on the right.

    uploads: The images to classify; other tabs put theirs here.
    """

    def __init__(self, loaded: LoadedBundle) -> None:
        self._loaded, self._network = loaded, loaded.network
        self._max_classes = min(MAX_CLASSES, len(self._network.class_names))
        self._result = gr.State(None, time_to_live=3600)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=320, elem_classes="left"):
                self._build_uploads()
                with gr.Column(elem_classes="controls"):
                    self._build_controls()
            with gr.Column(scale=3, min_width=320, elem_classes="answers"):
                self._view = ResultsView(self._network, _PLACEHOLDER)
        self._listen()

    def _build_uploads(self) -> None:
        self.uploads = gr.Gallery(
            label=f"Your images (up to {MAX_IMAGES})",
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
            np.asarray(Image.open(self._loaded.folder / EXAMPLES / example["file"]).convert("RGB"))
            for example in self._loaded.metadata.examples
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
        maximum, layers = self._max_classes, self._network.layer_choices()
        with gr.Group():
            top = gr.Slider(1, maximum, min(5, maximum), step=1, label="Classes to list for each image")
            fit = gr.Radio(list(FITS), value=next(iter(FITS)), label="If the aspect ratio differs")
        with gr.Group(visible=bool(layers)):
            show = gr.Checkbox(bool(layers), label="Show where the network looks (Grad-CAM)")
            count = gr.Slider(0, MAX_IMAGES, MAX_IMAGES, step=1, label="Number of images to explain")
            layer = gr.Dropdown(
                layers, value=layers[0][1] if layers else None, label="Layer (name · channels x height x width)"
            )
            method = gr.Radio(list(METHODS), value=next(iter(METHODS)), label="Method")
            opacity = gr.Slider(0, 1, 0.5, step=0.05, label="Opacity of the heatmap")
        self._controls = _Settings(top, fit, show, count, layer, method, opacity)

    def _listen(self) -> None:
        computing: dict[str, Any] = {"concurrency_id": "network", "concurrency_limit": 1, "api_visibility": "private"}
        computing["trigger_mode"] = "always_last"  # otherwise changes made during an earlier event are lost
        quiet: dict[str, Any] = {"show_progress": "hidden", **computing}
        controls, outputs = self._controls, [self._result, *self._view.outputs]
        uploading, updating = [self.uploads, *controls], [self._result, *controls]
        gr.on([self._button.click, controls.fit.input], self._classify, uploading, outputs, **computing)
        # `upload` does not fire for images from the camera
        self.uploads.change(self._classify_if_new, [self._result, *uploading], outputs, **computing)
        self._examples.select(self._load_example, None, uploading, api_visibility="private").then(
            self._classify, uploading, outputs, **computing
        )
        heatmap_controls = (controls.explain, controls.count, controls.layer, controls.method)
        gr.on([control.input for control in heatmap_controls], self._explain, updating, outputs, **quiet)
        controls.top.input(self._updates, updating, outputs, **quiet)
        controls.opacity.input(self._overlay_updates, [self._result, controls.opacity], self._view.overlays, **quiet)
        for index, classes in enumerate(self._view.lists):
            classes.select(self._explain_selected(index), updating, outputs, **computing)

    def classify_after(self, event: Any) -> None:
        """Classify the uploads after another tab's event has set them: a hidden gallery fires no change event."""
        event.then(
            self._classify_if_new,
            [self._result, self.uploads, *self._controls],
            [self._result, *self._view.outputs],
            concurrency_id="network",
            concurrency_limit=1,
            api_visibility="private",
        )

    # Event handlers; each returns the result and updates of the view

    def _classify(self, uploads: list[tuple[str, str | None]] | None, *controls: Any) -> list[Any]:
        settings = _Settings(*controls)
        fit = FITS[check_choice("The fit", settings.fit, FITS)]
        paths = [path for path, _ in uploads or []]
        return self._updates(classify(self._network, paths, fit, self._explain_options(settings)), *controls)

    def _classify_if_new(
        self, result: UploadResult | None, uploads: list[tuple[str, str | None]] | None, *controls: Any
    ) -> list[Any]:
        if result is not None and result.paths == [path for path, _ in uploads or []]:
            return [gr.skip()] * (1 + len(self._view.outputs))
        return self._classify(uploads, *controls)

    def _explain(self, result: UploadResult | None, *controls: Any) -> list[Any]:
        options = self._explain_options(_Settings(*controls))
        return self._updates(None if result is None else explain(self._network, result, options), *controls)

    def _explain_selected(self, index: int) -> Any:
        """Return a handler that explains the class clicked in the list of one image."""

        def handler(event: Selected, result: UploadResult | None, *controls: Any) -> list[Any]:
            names = self._network.class_names
            if result is not None and index < len(result.images):
                result = result.select(names.index(check_choice("The class", event.value, names)), index)
            return self._explain(result, *controls)

        return handler

    def _updates(self, result: UploadResult | None, *controls: Any) -> list[Any]:
        settings = _Settings(*controls)
        top = check_int("The number of classes", settings.top, 1, self._max_classes)
        return [result, *self._view.updates(result, top, check_number("The opacity", settings.opacity, 0, 1))]

    def _overlay_updates(self, result: UploadResult | None, opacity: Any) -> list[Any]:
        return self._view.overlay_updates(result, check_number("The opacity", opacity, 0, 1))

    def _load_example(self, event: Selected) -> list[Any]:
        index = check_int("The example", event.index, 0, len(self._example_images) - 1)
        example = self._loaded.metadata.examples[index]
        layer = example["layer"] if example["layer"] in self._network.layers else None
        return [
            [(cached_image(self._example_images[index]), None)],
            example["classes"],
            next(name for name, fit in FITS.items() if fit == example["fit"]),
            layer is not None,
            1,
            layer,
            next(name for name, method in METHODS.items() if method == example["method"]),
            example["opacity"],
        ]

    def _explain_options(self, settings: _Settings) -> ExplainOptions:
        if not self._network.layers:
            return ExplainOptions()
        layer = check_choice("The layer", settings.layer, self._network.layers)
        method = METHODS[check_choice("The method", settings.method, METHODS)]
        count = check_int("The number of images", settings.count, 0, MAX_IMAGES) if settings.explain is True else 0
        return ExplainOptions(count, layer, method)
