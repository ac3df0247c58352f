"""The tab of the local demo in which images are reviewed one by one; it is never part of an exported Space."""

import csv
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from callbacks.rendering.grid import enlarge_images
from callbacks.rendering.markdown import escape
from cifar_lit.csv_text import csv_text, read_csv
from cifar_lit.data.batches import ImageTensors
from cifar_lit.data.decisions import COLUMNS
from cifar_lit.errors import InputError
from cifar_lit.safe_files import write_atomically
from space.app.page import serve
from space.export.external_code import find_external_code
from space.export.run_data import RunData
from space.export.run_datasets import splits_of

_SIDE = 320  # pixels of the image on the page, at least
_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
_KEYS = """() => document.addEventListener("keydown", event => {
  const name = {k: "keep", r: "relabel", d: "drop", b: "back"}[event.key.toLowerCase()];
  const button = document.querySelector(`#review-${name}`);
  if (!name || !button?.checkVisibility() || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (!event.target.closest("input, textarea")) button.click();
})"""


def serve_review(ckpt_path: str, folder: Path, tables: Path, **options: Any) -> None:
    """Serve a Space in this process, with a tab to review images.

    Args:
        ckpt_path: The checkpoint, in its run's folder.
        folder: The Space.
        tables: CSV file that lists the images, or a folder of such files.
        **options: See gradio's ``Blocks.launch``.

    Raises:
        InputError: If the run's data is not available, or none of its images are listed.
    """
    run = RunData.load(ckpt_path, None)
    if run.data is None:
        raise InputError(f"--review needs the run's data: {run.note}")
    images: dict[str, ImageTensors] = {split: found.images for split, found in splits_of(run.data).items()}
    items = read_items(sorted(tables.glob("*.csv")) if tables.is_dir() else [tables], images, run.class_names)
    if not items:
        raise InputError(f"--review: {tables} lists no images of the run's data")
    decisions, earlier = run.checkpoint_run.folder / "decisions.csv", run.config["data"]["init_args"].get("decisions")

    def add_tab(page: gr.Blocks) -> None:
        with gr.Tab("Review", id="review"):
            ReviewTab(images, items, run.class_names, decisions, Path(earlier) if earlier else None, page)

    with suppress(KeyboardInterrupt):  # the usual way to close the page
        serve(folder, find_external_code(run.classifier.recipe.net).networks, add_tab, **options)


class ReviewItem(NamedTuple):
    """An image to review.

    split, row, file: Where it is in the data.
    label, suggested: Its class, and what it may be instead; empty if unknown.
    reason: Why it is listed.
    """

    split: str
    row: int
    file: str
    label: str
    suggested: str
    reason: str


class ReviewTab:
    """Shows images one by one, and writes each decision to a CSV file at once.

    Args:
        images: The images, by split.
        items: The images to review; those with a decision in the file are left out.
        class_names: The classes.
        file: The CSV file, for ``--data.decisions``.
        earlier: The decisions that the run was trained with, which a new file continues.
        page: The page.
    """

    def __init__(
        self,
        images: dict[str, ImageTensors],
        items: Sequence[ReviewItem],
        class_names: Sequence[str],
        file: Path,
        earlier: Path | None,
        page: gr.Blocks,
    ) -> None:
        self._images, self._file, self._names = images, file, list(class_names)
        self._decisions = _read_decisions(file, earlier)
        self._items = [item for item in items if (item.split, str(item.row)) not in self._decisions]
        self._position = gr.State(0)
        self._text = gr.Markdown(elem_id="review-text")
        self._image = gr.Image(
            interactive=False, show_label=False, height=_SIDE + 20, buttons=[], elem_classes="pixels", format="png"
        )
        self._label = gr.Dropdown(self._names, label="New class", value=None)
        self._label.input(None, js="() => document.activeElement.blur()")  # so that the next key is a decision
        with gr.Row():
            buttons = {
                name: gr.Button(f"{name.capitalize()} ({name[0].upper()})", elem_id=f"review-{name}")
                for name in ("keep", "relabel", "drop", "back")
            }
        gr.Markdown(
            f"Each decision is written to `{file}`. Those on training images take effect in"
            f" `fit --data.decisions {file}`; validation and test images are used as they are."
        )
        outputs = [self._position, self._text, self._image, self._label]
        for name, button in buttons.items():
            button.click(self._handler(name), [self._position, self._label], outputs, **_QUIET)
        page.load(self._show_next, None, outputs, **_QUIET)
        page.load(None, js=_KEYS)

    def _handler(self, name: str) -> Any:
        def handle(position: int, label: str | None) -> list[Any]:
            if name == "back":
                return self._show(max(0, position - 1))
            if position >= len(self._items):
                return self._show(position)
            if name == "relabel" and label not in self._names:
                raise gr.Error("Choose the new class first.", print_exception=False)
            item = self._items[position]
            self._decisions[item.split, str(item.row)] = {
                **{"split": item.split, "index": str(item.row), "file": item.file},
                **{"decision": name, "label": str(label) if name == "relabel" else ""},
            }
            rows = [[decision[column] for column in COLUMNS] for decision in self._decisions.values()]
            write_atomically(self._file, csv_text([COLUMNS, *rows]).encode(errors="surrogateescape"))
            return self._show(position + 1)

        return handle

    def _show_next(self) -> list[Any]:
        """Show the first image without a decision; a page that is loaded again continues there."""
        undecided = (
            position for position, item in enumerate(self._items) if (item.split, str(item.row)) not in self._decisions
        )
        return self._show(next(undecided, len(self._items)))

    def _show(self, position: int) -> list[Any]:
        """Return the position, the text, the image and the class of an item."""
        if position >= len(self._items):
            return [position, f"**{len(self._items)} images reviewed.**", None, None]
        item = self._items[position]
        pixels = self._images[item.split].pixels[item.row].permute(1, 2, 0).numpy()
        suggested = item.suggested if item.suggested in self._names else None
        place = f"{escape(item.split)} #{item.row}" + f" · {escape(item.file)}" * bool(item.file)
        text = f"**{position + 1} of {len(self._items)}** · {place}\n\n"
        text += f"Label: **{escape(item.label)}** · {escape(item.reason)}"
        return [position, text, enlarge_images(pixels[None], _SIDE)[0], suggested]


def read_items(files: Sequence[Path], images: dict[str, ImageTensors], class_names: Sequence[str]) -> list[ReviewItem]:
    """Return the images listed in CSV files of a run, a report or an audit, each once.

    Args:
        files: CSV files with the columns ``index`` or ``file``, and maybe ``split``; others are ignored.
        images: The images, by split.
        class_names: The classes.

    Raises:
        InputError: If a file cannot be read.
    """
    items: dict[tuple[str, int], ReviewItem] = {}
    positions = {split: {file: row for row, file in enumerate(of_split.files)} for split, of_split in images.items()}
    for path in files:
        for row in _rows(path):
            split = row.get("split") or ("test" if path.stem.endswith("_test") else "val")  # of a run's mistakes
            file, number = row.get("file") or "", row.get("index") or ""
            index = positions.get(split, {}).get(file, -1) if file else int(number) if number.isdigit() else -1
            if split not in images or not 0 <= index < len(images[split]):
                continue  # not an image, or the data changed since
            suggested = row.get("suggested") or row.get("predicted") or ""
            if "may_be_wrong" in row and not suggested:  # a probable label, listed because as many were asked for
                continue
            reason = " ".join(filter(None, [row.get("issue"), row.get("detail"), suggested and f"perhaps {suggested}"]))
            label = class_names[int(images[split].labels[index])]
            items.setdefault((split, index), ReviewItem(split, index, file, label, suggested, reason or path.stem))
    return list(items.values())


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        return [row for row in read_csv(path) if row.keys() & {"index", "file"}]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"--review: {path} cannot be read as CSV ({error})") from error


def _read_decisions(file: Path, earlier: Path | None) -> dict[tuple[str, str], dict[str, str]]:
    """Return the decisions in a file; before there is one, those that the run was trained with."""
    source = file if file.is_file() else earlier
    rows = [] if source is None else _rows(source)
    if any(not row.keys() >= set(COLUMNS) for row in rows):
        raise InputError(f"{source} must have the columns {', '.join(COLUMNS)}; add them, or move it elsewhere")
    return {(row["split"], row["index"]): row for row in rows}
