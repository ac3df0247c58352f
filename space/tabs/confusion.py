"""The tab with the confusion matrix, whose cells open the images behind them."""

from typing import Any

import gradio as gr

from callbacks.rendering.confusion import Shown as Numbers
from callbacks.rendering.confusion import confusion_picture, matrix_layout
from space.controls import one_of
from space.shown import Shown
from space.tabs.classify import ClassifyTab
from space.tabs.judged_images import SENDING, judged_gallery, rows_of, sent, tiles

_NUMBERS: dict[str, Numbers] = {"images": "counts", "% of the true class": "rows"}
_MOST = 24  # images of a cell that are shown


class ConfusionTab:
    """The matrix, and below it the images of the cell that was clicked or chosen."""

    def __init__(self, shown: Shown, tabs: gr.Tabs, classify: ClassifyTab) -> None:
        self.shown = shown
        if shown.judged is None:
            gr.Markdown("This Space was made without images to judge the network by, so there is no matrix to show.")
            return
        self._names, self._counts = shown.network.class_names, shown.judged.counts.numpy()
        self._rows = gr.State([])
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=320):
                self._kind = gr.Radio(list(_NUMBERS), value=next(iter(_NUMBERS)), label="Numbers in the cells")
                self._picture = gr.Image(
                    self._drawn(next(iter(_NUMBERS))),
                    label="Click a cell to see the images behind it",
                    format="png",
                    interactive=False,
                    buttons=["download", "fullscreen"],
                    elem_id="matrix",
                )
            with gr.Column(scale=2, min_width=320):
                true, said = self._most_confused()
                self._true = gr.Dropdown(self._names, value=self._names[true], label="True class (row)")
                self._said = gr.Dropdown(self._names, value=self._names[said], label="Predicted class (column)")
                self._status = gr.Markdown(elem_classes="status")
                self._gallery = judged_gallery("Images of that cell")
        self._listen(tabs, classify)

    def _most_confused(self) -> tuple[int, int]:
        mistakes = self._counts.copy()
        mistakes[range(len(mistakes)), range(len(mistakes))] = 0
        row, column = divmod(int(mistakes.argmax()), len(mistakes))
        return row, column

    def _drawn(self, kind: str) -> Any:
        return confusion_picture(self._counts, self._names, _NUMBERS[kind])

    def _listen(self, tabs: gr.Tabs, classify: ClassifyTab) -> None:
        hidden = "private"
        cell, images = [self._true, self._said], [self._rows, self._status, self._gallery]
        self._kind.input(self._redraw, self._kind, self._picture, api_visibility=hidden)
        self._picture.select(self._cell_at, cell, cell, api_visibility=hidden).then(
            self.behind, cell, images, api_visibility=hidden
        )
        gr.on([choice.input for choice in cell], self.behind, cell, images, api_visibility=hidden)
        self.load = (self.behind, cell, images, {"api_visibility": hidden})
        event = self._gallery.select(self._sent, self._rows, [tabs, classify.uploads], api_visibility=hidden)
        classify.show(event)

    def _redraw(self, kind: Any) -> Any:
        return self._drawn(one_of("The numbers", kind, _NUMBERS))

    def _cell_at(self, true: Any, said: Any, event: gr.SelectData) -> tuple[Any, Any]:
        """The classes of the cell that was clicked; what they were, beside the cells."""
        if not isinstance(event.index, list | tuple) or len(event.index) != 2:
            return true, said
        cell = matrix_layout(self._names).cell_at(*event.index)
        return (true, said) if cell is None else (self._names[cell[0]], self._names[cell[1]])

    def _sent(self, rows: list[int], event: gr.SelectData) -> list[Any]:
        return sent(self.shown, rows, event)

    def behind(self, true: Any, said: Any) -> tuple[list[int], str, Any]:
        """The rows of a cell's images, a sentence about them, and the gallery's update."""
        judged = self.shown.judged
        assert judged is not None
        row = self._names.index(one_of("The true class", true, self._names))
        column = self._names.index(one_of("The predicted class", said, self._names))
        rows = rows_of(judged, row, column, mistakes=False)[:_MOST].tolist()
        count, whole = int(judged.counts[row, column]), int(judged.counts[row].sum())
        share = f" ({count / whole:.1%} of its {whole:,} images)" if whole else ""
        shown = f"The {len(rows)} kept ones are shown. {SENDING}" if rows else ""
        status = f"**{count:,} images**{share} of the row's class in this cell. {shown}"
        return rows, status, gr.Gallery(tiles(self.shown.network, judged, rows), visible=bool(rows))
