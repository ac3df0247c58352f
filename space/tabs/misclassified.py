"""The tab that browses the mistakes."""

from typing import Any

import gradio as gr
import torch

from space.controls import fraction, one_of, whole
from space.network import METHODS
from space.shown import Shown
from space.tabs.classify import ClassifyTab
from space.tabs.judged_images import ANY, SENDING, judged_gallery, rows_of, sent, tiles

_MOST = 60  # at a time
_ORDERS = ("most confident first", "least confident first", "at random")


class MisclassifiedTab:
    """The misclassified images of the evaluation: how many, in which order, of which classes."""

    def __init__(self, shown: Shown, tabs: gr.Tabs, classify: ClassifyTab) -> None:
        self.shown = shown
        if shown.judged is None:
            gr.Markdown("This Space was made without images to judge the network by, so there are no mistakes to show.")
            return
        self._names = shown.network.class_names
        self._rows = gr.State([])
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=300, elem_classes="controls"):
                self._build_controls()
            with gr.Column(scale=3, min_width=320, elem_classes="answers"):
                self._status = gr.Markdown(elem_classes="status")
                self._gallery = judged_gallery("true → predicted · confidence · index")
        self._listen(tabs, classify)

    def _build_controls(self) -> None:
        kept = len(rows_of(self.shown.judged, None, None, mistakes=True)) if self.shown.judged else 0
        self._show = gr.Checkbox(True, label="Show misclassified images")
        with gr.Group():
            most = max(1, min(_MOST, kept))
            self._count = gr.Slider(1, most, min(12, most), step=1, label="How many")
            self._order = gr.Radio(list(_ORDERS), value=_ORDERS[0], label="Order")
            self._seed = gr.Number(0, precision=0, minimum=0, maximum=2**31, label="Seed of the random choice")
            self._true = gr.Dropdown([ANY, *self._names], value=ANY, label="True class")
            self._said = gr.Dropdown([ANY, *self._names], value=ANY, label="Predicted class")
        layers = self.shown.network.layer_choices()
        with gr.Group(visible=bool(layers)):
            self._explain = gr.Checkbox(False, label="Show what speaks for the predicted and for the true class")
            self._layer = gr.Dropdown(layers, value=layers[0][1] if layers else None, label="Layer")
            self._method = gr.Radio(list(METHODS), value=next(iter(METHODS)), label="Method")
            self._opacity = gr.Slider(0, 1, 0.5, step=0.05, label="Opacity of the heatmap")

    def _listen(self, tabs: gr.Tabs, classify: ClassifyTab) -> None:
        controls: list[Any] = [
            self._show,
            self._count,
            self._order,
            self._seed,
            self._true,
            self._said,
            self._explain,
            self._layer,
            self._method,
            self._opacity,
        ]
        outputs = [self._rows, self._status, self._gallery]
        options: dict[str, Any] = {"concurrency_id": "network", "concurrency_limit": 1, "api_visibility": "private"}
        gr.on([control.input for control in controls], self.browse, controls, outputs, **options)
        self.load = (self.browse, controls, outputs, options)
        event = self._gallery.select(self._sent, self._rows, [tabs, classify.uploads], api_visibility="private")
        classify.show(event)

    def _sent(self, rows: list[int], event: gr.SelectData) -> list[Any]:
        return sent(self.shown, rows, event)

    def browse(
        self,
        show: Any,
        count: Any,
        order: Any,
        seed: Any,
        true: Any,
        said: Any,
        explain: Any,
        layer: Any,
        method: Any,
        opacity: Any,
    ) -> tuple[list[int], str, Any]:
        """The rows that are shown, a sentence about them, and the gallery's update."""
        judged = self.shown.judged
        if judged is None or show is not True:
            return [], "", gr.Gallery([], visible=False)
        order = one_of("The order", order, _ORDERS)
        true = one_of("The true class", true, [ANY, *self._names])
        said = one_of("The predicted class", said, [ANY, *self._names])
        labels = [None if name == ANY else self._names.index(name) for name in (true, said)]
        rows = rows_of(judged, *labels, mistakes=True)
        if order == "at random":
            generator = torch.Generator().manual_seed(whole("The seed", seed, 0, 2**31))
            rows = rows[torch.randperm(len(rows), generator=generator)]
        elif order == "least confident first":
            rows = rows.flip(0)
        chosen = rows[: whole("The number of images", count, 1, _MOST)].tolist()
        if explain is True:
            layer = one_of("The layer", layer, self.shown.network.layers)
            method = METHODS[one_of("The method", method, METHODS)]
            opacity = fraction("The opacity", opacity, 0, 1)
            pictures = tiles(self.shown.network, judged, chosen, layer, method, opacity)
        else:
            pictures = tiles(self.shown.network, judged, chosen)
        return (
            chosen,
            self._summary(len(chosen), *labels),
            gr.Gallery(pictures, columns=2 if explain is True else 4, visible=bool(pictures)),
        )

    def _summary(self, count: int, true: int | None, said: int | None) -> str:
        judged = self.shown.judged
        assert judged is not None
        cells = judged.counts - judged.counts.diagonal().diag()
        if true is not None:
            cells = cells[true : true + 1]
        if said is not None:
            cells = cells[:, said : said + 1]
        errors = int(cells.sum())
        if not errors:
            return f"**No mistakes** of this kind among {judged.images:,} images."
        return f"**{count} of {errors:,} mistakes** of this kind among {judged.images:,} images. {SENDING}"
