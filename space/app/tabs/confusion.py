"""The tab with the confusion matrix and the images of each cell."""

from typing import Any

import gradio as gr

from callbacks.rendering.confusion import Unit, confusion_picture, matrix_layout
from space.app.bundle_metadata import NO_EVALUATION
from space.app.image_cache import cached_image
from space.app.loaded_bundle import LoadedBundle
from space.app.request_allowlist import Selected
from space.app.tabs.classify import ClassifyTab
from space.app.tabs.evaluated_images import CLICK_HINT, open_in_classify, select_rows, tile_gallery, tiles
from space.app.validation import check_choice, check_number

_UNITS: dict[str, Unit] = {"images": "counts", "% of the true class": "rows"}
_MAX_TILES = 24


class ConfusionTab:
    """The matrix, and the images of the selected cell."""

    def __init__(self, loaded: LoadedBundle, tabs: gr.Tabs, classify: ClassifyTab) -> None:
        self._loaded = loaded
        if loaded.evaluation is None:
            gr.Markdown(NO_EVALUATION)
            return
        self._names, self._counts = loaded.network.class_names, loaded.evaluation.counts.numpy()
        mistakes = self._counts.copy()
        mistakes[range(len(mistakes)), range(len(mistakes))] = 0
        true, predicted = (self._names[label] for label in divmod(int(mistakes.argmax()), len(mistakes)))
        rows, status, pictures = self._images_of(true, predicted)
        self._rows = gr.State(rows)
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=320):
                self._unit = gr.Radio(list(_UNITS), value=next(iter(_UNITS)), label="Numbers in the cells")
                self._picture = gr.Image(
                    self._draw(next(iter(_UNITS)), true, predicted),
                    label="Click a cell to see its images",
                    format="png",
                    interactive=False,
                    buttons=["download", "fullscreen"],
                    elem_id="matrix",
                    elem_classes="chart",
                )
            with gr.Column(scale=2, min_width=320):
                self._true = gr.Dropdown(self._names, value=true, label="True class (row)")
                self._predicted = gr.Dropdown(self._names, value=predicted, label="Predicted class (column)")
                self._status = gr.Markdown(status, elem_classes="status")
                self._gallery = tile_gallery(pictures, "Images in this cell")
        self._listen(tabs, classify)

    def _listen(self, tabs: gr.Tabs, classify: ClassifyTab) -> None:
        private: dict[str, Any] = {"api_visibility": "private"}
        cell = [self._true, self._predicted]
        drawn, shown = [self._unit, *cell], [self._picture, self._rows, self._status, self._gallery]
        self._unit.input(self._draw, drawn, self._picture, **private)
        self._picture.select(self._cell_at, cell, cell, **private).then(self._update, drawn, shown, **private)
        gr.on([choice.input for choice in cell], self._update, drawn, shown, trigger_mode="always_last", **private)
        open_in_classify(self._loaded, self._gallery, self._rows, tabs, classify)

    def _draw(self, unit: Any, true: Any, predicted: Any) -> str:
        unit = _UNITS[check_choice("The numbers", unit, _UNITS)]
        return cached_image(confusion_picture(self._counts, self._names, unit, selected=self._cell(true, predicted)))

    def _cell(self, true: Any, predicted: Any) -> tuple[int, int]:
        row = self._names.index(check_choice("The true class", true, self._names))
        return row, self._names.index(check_choice("The predicted class", predicted, self._names))

    def _cell_at(self, true: Any, predicted: Any, event: Selected) -> tuple[Any, Any]:
        """Return the classes of the clicked cell; the current ones for a click outside the cells."""
        if not isinstance(event.index, list | tuple) or len(event.index) != 2:
            return true, predicted
        x, y = (check_number("The position", value, 0, 10**6) for value in event.index)
        cell = matrix_layout(self._names).cell_at(x, y)
        return (true, predicted) if cell is None else (self._names[cell[0]], self._names[cell[1]])

    def _update(self, unit: Any, true: Any, predicted: Any) -> list[Any]:
        rows, status, pictures = self._images_of(true, predicted)
        return [self._draw(unit, true, predicted), rows, status, gr.Gallery(pictures, visible=bool(pictures))]

    def _images_of(self, true: Any, predicted: Any) -> tuple[list[int], str, list[tuple[str, str]]]:
        """Return the rows of a cell's images, a summary, and their tiles."""
        row, column = self._cell(true, predicted)
        rows = select_rows(self._loaded, row, column)[:_MAX_TILES]
        count, in_row = int(self._counts[row, column]), int(self._counts[row].sum())
        share = f", {count / in_row:.1%} of the {in_row:,} images of its class" if in_row else ""
        shown = f" Showing {len(rows)}." if len(rows) < count else ""
        shown += f" {CLICK_HINT}" if rows else ""
        status = f"**{count:,} image{'s' * (count != 1)}** in this cell{share}.{shown}"
        return rows, status, tiles(self._loaded, rows)
