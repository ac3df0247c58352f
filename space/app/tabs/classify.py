"""The tab that classifies and explains images."""

from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from PIL import Image

from callbacks.rendering.class_activation_maps import METHOD_NAMES, Method, combines_layers
from space.app.bundle_metadata import EXAMPLES
from space.app.image_cache import cached_image
from space.app.loaded_bundle import LoadedBundle
from space.app.request_allowlist import Selected
from space.app.service import LIMITS, ExplainOptions, Network, UploadResult, classify, explain
from space.app.tabs.results import ResultsView
from space.app.validation import MAX_CLASSES, MAX_IMAGES, check_choice, check_int, check_number

_PLACEHOLDER = f"No images yet. Drop up to {MAX_IMAGES} into the box, or click an example."
_OPENING = "**Example.** Drop your own images into the box, or click another example."
_EXAMPLE = "**Example with its own settings.** Your settings come back with your next upload."
# Options of an event that runs the network
COMPUTING: dict[str, Any] = {
    "concurrency_id": "network",
    "concurrency_limit": 1,
    "trigger_mode": "always_last",  # otherwise changes made during an earlier event are lost
    "api_visibility": "private",
}


class _Settings(NamedTuple):
    """The unchecked values of the controls, in the order of the components."""

    explain: Any
    count: Any
    layer: Any
    method: Any
    opacity: Any
    top: Any


class _ExampleSettings(NamedTuple):
    """The visitor's own settings, which an example has replaced, and those of the example."""

    own: _Settings
    example: _Settings

    def restore(self, current: _Settings) -> _Settings:
        """Return the visitor's settings: those from before the example, with the changes made since."""
        pairs = zip(current, self.example, self.own, strict=True)
        return _Settings(*(own if now == example else now for now, example, own in pairs))


def layer_dropdown(network: Network, layer: Any, method: Method | None, all_layers: bool = False) -> gr.Dropdown:
    """Return the control of the layer, or an update of it; disabled if the method combines all layers.

    Args:
        network: The network.
        layer: The selected layer.
        method: The selected method.
        all_layers: Whether to list all layers, not one of each size; also if the selected one is not among these.
    """
    label = "Layer (name · height x width, channels)"
    if combines_layers(method):
        return gr.Dropdown([("all layers", layer)], value=layer, label="Layer", interactive=False)
    choices = network.layer_choices(all_layers)
    if layer not in dict(choices).values():
        choices = network.layer_choices(all_layers=True)
    return gr.Dropdown(choices, value=layer or None, label=label, interactive=True)


def heatmap_controls(network: Network) -> tuple[gr.Dropdown, gr.Radio, gr.Slider]:
    """Return controls for layer, method and opacity, with the network's defaults."""
    return (
        layer_dropdown(network, network.layer, network.method),
        gr.Radio(list(network.methods), value=METHOD_NAMES[network.method], label="Method"),
        gr.Slider(0, 1, 0.5, step=0.05, label="Opacity of the heatmap"),
    )


class ClassifyTab:
    """Uploads, examples and controls on the left, results on the right.

    controls, outputs: The components that ``open`` needs and updates.
    """

    def __init__(self, loaded: LoadedBundle, page: gr.Blocks) -> None:
        self._loaded, self._network = loaded, loaded.network
        self._max_classes = min(MAX_CLASSES, len(self._network.class_names))
        self._example_images = [
            np.asarray(Image.open(loaded.folder / EXAMPLES / example["file"]).convert("RGB"))
            for example in loaded.metadata.examples
        ]
        self._result = gr.State(None, time_to_live=3600)
        self._example_settings = gr.State(None)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=320, elem_classes="left"):
                self._build_uploads()
                with gr.Column(elem_classes="controls"):
                    self._build_controls()
            with gr.Column(scale=3, min_width=320, elem_classes="answers"):
                self._view = ResultsView(self._network, _PLACEHOLDER)
        self.outputs = [self._uploads, self._result, *self._view.outputs]
        self._listen(page)

    def _build_uploads(self) -> None:
        self._uploads = gr.Gallery(
            label="Your images",
            file_types=["image"],
            sources=["upload", "webcam", "clipboard"],
            type="filepath",
            format="png",
            columns=5,
            height=190,
            object_fit="contain",
            interactive=True,
            allow_preview=False,
            elem_id="uploads",
        )
        gr.Markdown(f"Each image must be a {LIMITS}.", elem_classes="faint limits")
        self._examples = gr.Gallery(
            value=[cached_image(image) for image in self._example_images],
            label="Examples",
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
        with gr.Group(visible=bool(layers)):
            show = gr.Checkbox(bool(layers), label="Show heatmaps")
            count = gr.Slider(0, MAX_IMAGES, MAX_IMAGES, step=1, label="Number of images to explain")
        with gr.Accordion("Heatmap settings", open=False, visible=bool(layers)):
            layer, method, opacity = heatmap_controls(self._network)
            self._all_layers = gr.Checkbox(
                False, label="List all layers", visible=len(self._network.layers) > len(layers), container=False
            )
        top = gr.Slider(1, maximum, min(5, maximum), step=1, label="Classes to list for each image")
        self.controls = _Settings(show, count, layer, method, opacity, top)

    def _listen(self, page: gr.Blocks) -> None:
        quiet: dict[str, Any] = {"show_progress": "hidden", **COMPUTING}
        controls, shown = self.controls, [self._result, *self._view.outputs]
        updating, settings = [self._result, *controls], [self._example_settings, *controls]
        if self._example_images:
            page.load(self._open, None, shown, **quiet)
        # `upload` does not fire for images from the camera
        self._uploads.change(
            self._classify_uploads, [self._uploads, self._result, *settings], [*settings, *shown], **COMPUTING
        )
        self._examples.select(self._open_example, settings, [*settings, *self.outputs], **COMPUTING)
        gr.on(
            [self._all_layers.input, controls.method.input],
            self._layer_update,
            [self._all_layers, controls.layer, controls.method],
            controls.layer,
            **quiet,
        )
        explaining = (controls.explain, controls.count, controls.layer, controls.method)
        gr.on([control.input for control in explaining], self._explain, updating, shown, **quiet)
        controls.top.input(self._updates, updating, shown, **quiet)
        controls.opacity.input(self._overlay_updates, [self._result, controls.opacity], self._view.overlays, **quiet)
        for index, classes in enumerate(self._view.lists):
            classes.select(self._explain_selected(index), updating, shown, **COMPUTING)

    def open(self, path: str, origin: str, true_label: int | None, *controls: Any) -> list[Any]:
        """Classify an image that is not an upload.

        Args:
            path: The file.
            origin: What it is, as Markdown.
            true_label: Its true class.
            *controls: The values of ``controls``.

        Returns:
            Updates of ``outputs``.
        """
        result = replace(self._classify([path], _Settings(*controls)), origin=origin, true_label=true_label)
        return [None, *self._updates(result, *controls)]

    # Event handlers; each returns the result and updates of the view

    def _open(self) -> list[Any]:
        return self._updates(self._opening, *(control.value for control in self.controls))

    @cached_property
    def _opening(self) -> UploadResult:
        """The first example, with the default settings."""
        settings = _Settings(*(control.value for control in self.controls))
        return replace(self._classify([self._example_path(0)], settings), origin=_OPENING)

    def _classify_uploads(
        self,
        uploads: list[tuple[str, str | None]] | None,
        result: UploadResult | None,
        example_settings: _ExampleSettings | None,
        *controls: Any,
    ) -> list[Any]:
        paths = [path for path, _ in uploads or []]
        settings, unchanged = _Settings(*controls), [gr.skip()] * (1 + len(controls))
        if paths == ([] if result is None else result.uploads):
            return [*unchanged, *[gr.skip()] * (1 + len(self._view.outputs))]
        if example_settings is None:
            return [*unchanged, *self._updates(self._classify(paths, settings), *settings)]
        settings = example_settings.restore(settings)
        return [None, *self._show(settings), *self._updates(self._classify(paths, settings), *settings)]

    def _open_example(self, event: Selected, previous: _ExampleSettings | None, *controls: Any) -> list[Any]:
        index = check_int("The example", event.index, 0, len(self._example_images) - 1)
        example = self._loaded.metadata.examples[index]
        current = _Settings(*controls)
        layer = example["layer"] if example["layer"] in self._network.layers else None
        settings = _Settings(
            explain=layer is not None,
            count=MAX_IMAGES,
            layer=layer,
            method=METHOD_NAMES[example["method"]],
            opacity=example["opacity"],
            top=example["classes"],
        )
        own = current if previous is None else previous.restore(current)
        opened = self.open(self._example_path(index), _EXAMPLE, None, *settings)
        return [_ExampleSettings(own, settings), *self._show(settings), *opened]

    def _show(self, settings: _Settings) -> list[Any]:
        """Return updates of the controls to these settings."""
        return list(settings._replace(layer=self._layer_update(False, settings.layer, settings.method)))

    def _layer_update(self, all_layers: Any, layer: Any, method: Any) -> gr.Dropdown:
        return layer_dropdown(self._network, layer, self._network.methods.get(str(method)), all_layers is True)

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

    def _classify(self, paths: list[str], settings: _Settings) -> UploadResult:
        return classify(self._network, paths, self._explain_options(settings))

    def _example_path(self, index: int) -> str:
        return str(self._loaded.folder / EXAMPLES / self._loaded.metadata.examples[index]["file"])

    def _explain_options(self, settings: _Settings) -> ExplainOptions:
        if not self._network.layers:
            return ExplainOptions()
        layer = check_choice("The layer", settings.layer, self._network.layers)
        method = self._network.methods[check_choice("The method", settings.method, self._network.methods)]
        count = check_int("The number of images", settings.count, 0, MAX_IMAGES) if settings.explain is True else 0
        return ExplainOptions(count, layer, method)
