"""The tab that browses the mistakes."""

from typing import Any

import gradio as gr
import torch

from cifar_lit.evaluation.result import EvaluationResult
from space.app.loaded_bundle import NOTHING_JUDGED, LoadedBundle
from space.app.middleware import Selected
from space.app.network import METHODS
from space.app.tabs.classify import ClassifyTab
from space.app.tabs.evaluated_images import ANY, SENDING, judged_gallery, rows_of, sent, tiles
from space.app.validation import check_choice, check_int, check_number

_MOST = 60  # at a time
_ORDERS = ("most confident first", "least confident first", "at random")


class MisclassifiedTab:
    """The misclassified images of the evaluation: how many, in which order, of which classes."""

    def __init__(self, shown: LoadedBundle, tabs: gr.Tabs, classify: ClassifyTab) -> None:
        self.shown = shown
        if shown.judged is None:
            gr.Markdown(NOTHING_JUDGED)
            return
        first, status, pictures = mistakes(shown, 12)
        self._rows = gr.State(first)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=300, elem_classes="controls"):
                self._build_controls(len(rows_of(shown, None, None)))
            with gr.Column(scale=3, min_width=320, elem_classes="answers"):
                self._status = gr.Markdown(status, elem_classes="status")
                self._gallery = judged_gallery("true → predicted · confidence · index", pictures)
        self._listen(tabs, classify)

    def _build_controls(self, kept: int) -> None:
        names = self.shown.network.class_names
        self._show = gr.Checkbox(True, label="Show misclassified images")
        with gr.Group():
            most = max(2, min(_MOST, kept))  # gradio takes no slider of one value
            self._count = gr.Slider(1, most, min(12, most), step=1, label="How many")
            self._order = gr.Radio(list(_ORDERS), value=_ORDERS[0], label="Order")
            self._seed = gr.Number(0, precision=0, minimum=0, maximum=2**31, label="Seed of the random choice")
            self._true = gr.Dropdown([ANY, *names], value=ANY, label="True class")
            self._said = gr.Dropdown([ANY, *names], value=ANY, label="Predicted class")
        has_neighbours = self.shown.judged is not None and len(self.shown.judged.training_labels) > 0
        self._alike = gr.Checkbox(
            False, label="Show the training images that the network finds most alike", visible=has_neighbours
        )
        layers = self.shown.network.layer_choices()
        with gr.Group(visible=bool(layers)):
            self._explain = gr.Checkbox(False, label="Show what speaks for the predicted and for the true class")
            self._layer = gr.Dropdown(layers, value=layers[0][1] if layers else None, label="Layer")
            self._method = gr.Radio(list(METHODS), value=next(iter(METHODS)), label="Method")
            self._opacity = gr.Slider(0, 1, 0.5, step=0.05, label="Opacity of the heatmap")

    def _listen(self, tabs: gr.Tabs, classify: ClassifyTab) -> None:
        choice = [self._count, self._order, self._seed, self._true, self._said]
        controls: list[Any] = [
            self._show,
            *choice,
            self._alike,
            self._explain,
            self._layer,
            self._method,
            self._opacity,
        ]
        gr.on(
            [control.input for control in controls],
            self._browse,
            controls,
            [self._rows, self._status, self._gallery],
            concurrency_id="network",
            concurrency_limit=1,
            trigger_mode="always_last",  # or what is changed while the answer to an earlier change comes would be lost
            api_visibility="private",
        )
        event = self._gallery.select(self._sent, self._rows, [tabs, classify.uploads], api_visibility="private")
        classify.answer_after(event)

    def _sent(self, rows: list[int], event: Selected) -> list[Any]:
        return sent(self.shown, rows, event)

    def _browse(self, show: Any, *controls: Any) -> list[Any]:
        """The rows that are shown, a sentence about them, and the gallery's update."""
        if show is not True:
            return [[], "", gr.Gallery([], visible=False)]
        count, order, seed, true, said, alike, explain, *heat_controls = controls
        heat = heat_controls if explain is True else None
        rows, status, pictures = mistakes(self.shown, count, order, seed, true, said, heat, alike is True)
        columns = 4 if heat is None and alike is not True else 2
        return [rows, status, gr.Gallery(pictures, columns=columns, visible=bool(pictures))]


def mistakes(
    shown: LoadedBundle,
    count: Any,
    order: Any = _ORDERS[0],
    seed: Any = 0,
    true: Any = ANY,
    said: Any = ANY,
    heat: list[Any] | None = None,
    alike: bool = False,
) -> tuple[list[int], str, list[tuple[str, str]]]:
    """Chosen mistakes of the evaluation; whatever is asked for is checked.

    Args:
        shown: Has an evaluation.
        count: How many, at most.
        order: Of all that are kept.
        seed: Of the random order.
        true: The true class, by name.
        said: The predicted class, by name.
        heat: Layer, method and opacity of heatmaps.
        alike: Whether to show the training images most alike.

    Returns:
        Their rows among the kept images, a sentence about them, and their tiles.
    """
    judged, network = shown.judged, shown.network
    if judged is None:
        raise gr.Error(NOTHING_JUDGED, print_exception=False)
    order = check_choice("The order", order, _ORDERS)
    places = []
    for kind, name in (("true", true), ("predicted", said)):
        name = check_choice(f"The {kind} class", name, [ANY, *network.class_names])
        places.append(None if name == ANY else network.class_names.index(name))
    kept = [] if places[0] == places[1] and places[0] is not None else rows_of(shown, *places)
    rows = kept
    if order == "at random":
        generator = torch.Generator().manual_seed(check_int("The seed", seed, 0, 2**31))
        rows = [kept[place] for place in torch.randperm(len(kept), generator=generator)]
    elif order == "least confident first":
        rows = kept[::-1]
    rows = rows[: check_int("The number of images", count, 1, _MOST)]
    status = _summary(judged, places, len(rows), len(kept))
    if heat is None:
        return rows, status, tiles(network, judged, rows, alike=alike)
    layer = check_choice("The layer", heat[0], network.layers)
    method = METHODS[check_choice("The method", heat[1], METHODS)]
    opacity = check_number("The opacity", heat[2], 0, 1)
    return rows, status, tiles(network, judged, rows, layer, method, opacity, alike)


def _summary(judged: EvaluationResult, places: list[int | None], count: int, kept: int) -> str:
    cells = judged.counts - judged.counts.diagonal().diag()
    true, said = (slice(None) if place is None else slice(place, place + 1) for place in places)
    errors = int(cells[true, said].sum())
    if not errors:
        return f"**No mistakes** of this kind among {judged.images:,} images."
    of = (
        f"{errors:,} mistake{'s' * (errors != 1)}"
        if kept == errors
        else f"{kept:,} kept mistakes (there were {errors:,})"
    )
    return f"**{count} of {of}** of this kind among {judged.images:,} images. {SENDING}"
