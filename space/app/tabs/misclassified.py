"""The tab that lists misclassified images."""

from typing import Any

import gradio as gr
import torch

from cifar_lit.evaluation.result import EvaluationResult
from space.app.bundle_metadata import NO_EVALUATION, SPLIT_NAMES
from space.app.loaded_bundle import LoadedBundle
from space.app.service import ExplainOptions
from space.app.tabs.classify import COMPUTING, ClassifyTab, heatmap_controls, layer_dropdown
from space.app.tabs.evaluated_images import ANY, CLICK_HINT, open_in_classify, select_rows, tile_gallery, tiles
from space.app.validation import check_choice, check_int, check_number

_MAX_TILES, _DEFAULT_COUNT = 60, 12
_RANDOM = "at random"
_ORDERS = ("most confident first", "least confident first", _RANDOM)
_GALLERY_LABEL = "true class → predicted class · confidence · index"
_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


class MisclassifiedTab:
    """Controls that select misclassified images, and a gallery of them."""

    def __init__(self, loaded: LoadedBundle, tabs: gr.Tabs, classify: ClassifyTab) -> None:
        self._loaded, evaluation = loaded, loaded.evaluation
        if evaluation is None or not evaluation.errors:
            gr.Markdown(NO_EVALUATION if evaluation is None else _summary(evaluation, [None, None], 0, 0))
            return
        available = len(select_rows(loaded, None, None))
        rows, status, pictures = mistakes(loaded, _DEFAULT_COUNT)
        self._rows = gr.State(rows)
        self._build_controls(evaluation, available)
        self._status = gr.Markdown(status, elem_classes="status")
        self._gallery = tile_gallery(pictures, _GALLERY_LABEL)
        self._listen(tabs, classify)

    def _build_controls(self, evaluation: EvaluationResult, available: int) -> None:
        names, network = self._loaded.network.class_names, self._loaded.network
        layers = network.layer_choices()
        with gr.Row(elem_classes="toolbar"):
            show = gr.Checkbox(True, label="Show misclassified images", min_width=240)
            # gradio needs a slider of at least two values
            maximum = max(2, min(_MAX_TILES, available))
            count = gr.Slider(
                1, maximum, min(_DEFAULT_COUNT, maximum), step=1, label="Number of images", min_width=220, scale=2
            )
        with gr.Accordion("Filter and sort", open=False), gr.Row(elem_classes="toolbar"):
            true = gr.Dropdown([ANY, *names], value=ANY, label="True class", min_width=150)
            predicted = gr.Dropdown([ANY, *names], value=ANY, label="Predicted class", min_width=150)
            order = gr.Dropdown(list(_ORDERS), value=_ORDERS[0], label="Order", min_width=230)
            seed = gr.Number(
                0, precision=0, minimum=0, maximum=2**31, label="Random seed", min_width=140, visible=False
            )
        similar = len(evaluation.training_labels) > 0
        with gr.Accordion(
            f"Heatmaps{' and similar training images' * similar}", open=False, visible=bool(layers) or similar
        ):
            neighbors = gr.Checkbox(False, label="Show the most similar training images", visible=similar)
            with gr.Group(visible=bool(layers)):
                explain = gr.Checkbox(False, label="Show the evidence for the predicted and the true class")
                layer, method, _ = heatmaps = heatmap_controls(network)
            method.input(
                lambda layer, method: layer_dropdown(network, layer, network.methods.get(str(method))),
                [layer, method],
                layer,
                **_QUIET,
            )
        self._show, self._order, self._seed = show, order, seed
        self._controls: list[Any] = [show, count, order, seed, true, predicted, neighbors]
        self._controls += [explain, *heatmaps]

    def _listen(self, tabs: gr.Tabs, classify: ClassifyTab) -> None:
        gr.on(
            [control.input for control in self._controls],
            self._update,
            self._controls,
            [self._rows, self._status, self._gallery],
            **COMPUTING,
        )
        others = self._controls[1:]
        self._show.input(
            lambda show: [gr.update(interactive=show is True) for _ in others], self._show, others, **_QUIET
        )
        self._order.input(lambda order: gr.Number(visible=order == _RANDOM), self._order, self._seed, **_QUIET)
        open_in_classify(self._loaded, self._gallery, self._rows, tabs, classify)

    def _update(self, show: Any, *controls: Any) -> list[Any]:
        if show is not True:
            return [[], "", gr.Gallery([], visible=False)]
        count, order, seed, true, predicted, neighbors, explain, *heatmap_controls = controls
        heatmaps = heatmap_controls if explain is True else None
        selection = (count, order, seed, true, predicted)
        rows, status, pictures = mistakes(self._loaded, *selection, heatmaps, neighbors is True)
        return [rows, status, tile_gallery(pictures, _GALLERY_LABEL, heatmaps is not None or neighbors is True)]


def mistakes(
    loaded: LoadedBundle,
    count: Any,
    order: Any = _ORDERS[0],
    seed: Any = 0,
    true: Any = ANY,
    predicted: Any = ANY,
    heatmaps: list[Any] | None = None,
    neighbors: bool = False,
) -> tuple[list[int], str, list[tuple[str, str]]]:
    """Select misclassified images; all arguments are validated.

    Args:
        loaded: A bundle with an evaluation.
        count: Maximum number of images.
        order: One of ``_ORDERS``.
        seed: Seed of the random order.
        true: Name of the true class.
        predicted: Name of the predicted class.
        heatmaps: Layer, method and opacity of heatmaps; None for no heatmaps.
        neighbors: Show the most similar training images.

    Returns:
        The rows of the evaluation's images, a summary, and their tiles.

    Raises:
        gr.Error: if there is no evaluation, or an argument is invalid.
    """
    evaluation, network = loaded.evaluation, loaded.network
    if evaluation is None:
        raise gr.Error(NO_EVALUATION, print_exception=False)
    order = check_choice("The order", order, _ORDERS)
    labels = []
    for kind, name in (("true", true), ("predicted", predicted)):
        name = check_choice(f"The {kind} class", name, [ANY, *network.class_names])
        labels.append(None if name == ANY else network.class_names.index(name))
    available = [] if labels[0] == labels[1] and labels[0] is not None else select_rows(loaded, *labels)
    rows = available
    if order == _RANDOM:
        generator = torch.Generator().manual_seed(check_int("The seed", seed, 0, 2**31))
        rows = [rows[index] for index in torch.randperm(len(rows), generator=generator)]
    elif order == "least confident first":
        rows = rows[::-1]
    rows = rows[: check_int("The number of images", count, 1, _MAX_TILES)]
    status = _summary(evaluation, labels, len(rows), len(available))
    if heatmaps is None:
        return rows, status, tiles(loaded, rows, neighbors=neighbors)
    layer = check_choice("The layer", heatmaps[0], network.layers)
    method = network.methods[check_choice("The method", heatmaps[1], network.methods)]
    opacity = check_number("The opacity", heatmaps[2], 0, 1)
    return rows, status, tiles(loaded, rows, ExplainOptions(0, layer, method), opacity, neighbors)


def _summary(evaluation: EvaluationResult, labels: list[int | None], count: int, available: int) -> str:
    mistakes = evaluation.counts - evaluation.counts.diagonal().diag()
    true, predicted = (slice(None) if label is None else slice(label, label + 1) for label in labels)
    errors = int(mistakes[true, predicted].sum())
    of_images = f"among {evaluation.images:,} {SPLIT_NAMES[evaluation.split]} images"
    if not evaluation.errors:
        return f"**No mistakes** {of_images}: there is nothing to show here."
    if not errors:
        return f"**No mistakes match** {of_images}."
    total = f"{errors:,} mistake{'s' * (errors != 1)}"
    if available != errors:
        total = f"{available:,} stored mistakes ({errors:,} in total)"
    return f"**{count} of {total}** {of_images}. {CLICK_HINT}"
