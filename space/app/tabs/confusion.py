"""The tab with the confusion matrix, whose cells open the images behind them."""

from typing import Any

import gradio as gr

from callbacks.rendering.confusion import Unit as Numbers
from callbacks.rendering.confusion import confusion_picture, matrix_layout
from space.app.image_cache import cached_image
from space.app.loaded_bundle import NOTHING_JUDGED, LoadedBundle
from space.app.middleware import Selected
from space.app.tabs.classify import ClassifyTab
from space.app.tabs.evaluated_images import SENDING, judged_gallery, rows_of, sent, tiles
from space.app.validation import check_choice, check_number

_NUMBERS: dict[str, Numbers] = {"images": "counts", "% of the true class": "rows"}
_MOST = 24  # images of a cell that are shown


class ConfusionTab:
    """The matrix, and below it the images of the cell that was clicked or chosen."""

    def __init__(self, shown: LoadedBundle, tabs: gr.Tabs, classify: ClassifyTab) -> None:
        self.shown = shown
        if shown.judged is None:
            gr.Markdown(NOTHING_JUDGED)
            return
        self._names, self._counts = shown.network.class_names, shown.judged.counts.numpy()
        true, said = (self._names[place] for place in self._most_confused())
        first, status, pictures = self._behind(true, said)
        self._rows = gr.State(first)
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
                self._true = gr.Dropdown(self._names, value=true, label="True class (row)")
                self._said = gr.Dropdown(self._names, value=said, label="Predicted class (column)")
                self._status = gr.Markdown(status, elem_classes="status")
                self._gallery = judged_gallery("Images of that cell", pictures)
        self._listen(tabs, classify)

    def _most_confused(self) -> tuple[int, int]:
        mistakes = self._counts.copy()
        mistakes[range(len(mistakes)), range(len(mistakes))] = 0
        row, column = divmod(int(mistakes.argmax()), len(mistakes))
        return row, column

    def _drawn(self, kind: str) -> str:
        return cached_image(confusion_picture(self._counts, self._names, _NUMBERS[kind]))

    def _listen(self, tabs: gr.Tabs, classify: ClassifyTab) -> None:
        hidden = "private"
        cell, images = [self._true, self._said], [self._rows, self._status, self._gallery]
        self._kind.input(self._redraw, self._kind, self._picture, api_visibility=hidden)
        self._picture.select(self._cell_at, cell, cell, api_visibility=hidden).then(
            self._open, cell, images, api_visibility=hidden
        )
        gr.on(
            [choice.input for choice in cell],
            self._open,
            cell,
            images,
            trigger_mode="always_last",
            api_visibility=hidden,
        )
        event = self._gallery.select(self._sent, self._rows, [tabs, classify.uploads], api_visibility=hidden)
        classify.answer_after(event)

    def _redraw(self, kind: Any) -> Any:
        return self._drawn(check_choice("The numbers", kind, _NUMBERS))

    def _cell_at(self, true: Any, said: Any, event: Selected) -> tuple[Any, Any]:
        """The classes of the cell that was clicked; what they were, beside the cells."""
        if not isinstance(event.index, list | tuple) or len(event.index) != 2:
            return true, said
        x, y = (check_number("The place", part, 0, 10**6) for part in event.index)
        cell = matrix_layout(self._names).cell_at(x, y)
        return (true, said) if cell is None else (self._names[cell[0]], self._names[cell[1]])

    def _sent(self, rows: list[int], event: Selected) -> list[Any]:
        return sent(self.shown, rows, event)

    def _open(self, true: Any, said: Any) -> list[Any]:
        """The rows of a cell's images, a sentence about them, and the gallery's update."""
        rows, status, pictures = self._behind(true, said)
        return [rows, status, gr.Gallery(pictures, visible=bool(pictures))]

    def _behind(self, true: Any, said: Any) -> tuple[list[int], str, list[tuple[str, str]]]:
        judged = self.shown.judged
        assert judged is not None
        row = self._names.index(check_choice("The true class", true, self._names))
        column = self._names.index(check_choice("The predicted class", said, self._names))
        kept = rows_of(self.shown, row, column)
        rows = kept[:_MOST]
        count, in_row = int(judged.counts[row, column]), int(judged.counts[row].sum())
        share = f", {count / in_row:.1%} of the {in_row:,} of its class" if in_row else ""
        shown = f" {len(rows)} of them are shown. {SENDING}" if rows else ""
        status = f"**{count:,} image{'s' * (count != 1)}** in this cell{share}.{shown}"
        return rows, status, tiles(self.shown.network, judged, rows)
