"""Draw confusion matrices, legible with ten classes and with a hundred."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from callbacks.rendering.fonts_and_colors import FAINT_INK, FONT_SIZE, INK, WRONG_INK, drawable, font, truncate
from callbacks.rendering.grid import GAP, titled_canvas

Unit = Literal["counts", "rows"]
_MAX_NAME_WIDTH = 190  # pixels
_SIDE = 640  # pixels of all cells, unless class names need larger ones
_MAX_CELL = 54  # pixels; with ten classes, class names are then as large as possible in a picture of a given width
_LEGEND_HEIGHT, _MIN_LEGEND_WIDTH, _LEGEND_SIZE = 88, 256, 22
_NUMBERED = 20  # classes; with more, cells are too small for numbers
_NAMED = 150  # classes; with more, rows are too small for names
_MAX_SIDE = 2000  # pixels of all cells, without class names


def confusion_picture(
    counts: np.ndarray,
    class_names: Sequence[str],
    shown: Unit = "counts",
    title: str = "",
    selected: tuple[int, int] | None = None,
) -> np.ndarray:
    """Draw a confusion matrix: rows are true classes, columns predicted classes.

    Colors show each cell's fraction of its row, which makes classes of different size comparable, on a square-root
    scale, which makes rare mistakes visible.

    Args:
        counts: int (C, C), number of images by true class (row) and predicted class (column).
        class_names: C names.
        shown: Numbers in the cells: ``counts``, or ``rows``: percentage of the row. They are omitted with more than 20
            classes, and class names with more than 150.
        title: Lines above the matrix, the first in bold.
        selected: Row and column of a cell to outline.

    Returns:
        uint8 (height, width, 3).
    """
    layout = matrix_layout(class_names, title)
    cell, left, top, side = layout.cell, layout.left, layout.top, layout.side
    height = top + side + _LEGEND_HEIGHT - _title_height(title)
    legend_width = max(side, _MIN_LEGEND_WIDTH)
    canvas, draw, _ = titled_canvas(title, left + legend_width + 2 * GAP, height)
    fraction = counts / counts.sum(1, keepdims=True).clip(1)
    colors = matplotlib.colormaps["Blues"](np.sqrt(fraction), bytes=True)[..., :3]
    canvas.paste(Image.fromarray(colors.repeat(cell, 0).repeat(cell, 1)), (left, top))
    _lines(draw, left, top, cell, layout.classes)
    if selected is not None:
        row, column = selected
        x, y = left + column * cell, top + row * cell
        draw.rectangle((x - 1, y - 1, x + cell + 1, y + cell + 1), outline=WRONG_INK, width=3)
    for number, name in enumerate(class_names if layout.named else []):
        middle = (number + 0.5) * cell
        text, face = drawable(name, layout.font_size)
        short = truncate(text, face, _MAX_NAME_WIDTH)
        draw.text((left - GAP, top + middle), short, INK, face, anchor="rm")
        _upright(canvas, short, (round(left + middle), top - GAP), layout.font_size)
    draw.text((left, _title_height(title)), "predicted class →", FAINT_INK, font())
    bottom = top + round(font().getlength("← true class"))
    _upright(canvas, "← true class", (FONT_SIZE // 2 + 2, bottom), FONT_SIZE, FAINT_INK)
    if layout.classes <= _NUMBERED:
        _numbers(draw, counts, fraction, shown, left, top, cell)
    _legend(canvas, draw, left, top + side + 2 * GAP, legend_width)
    return np.asarray(canvas)


class MatrixLayout(NamedTuple):
    """Layout of a confusion matrix, in pixels.

    classes: Number of rows and of columns.
    cell: Side of a cell.
    left, top: Position of the first cell.
    font_size: Font size of the class names.
    named: Whether class names are drawn.
    """

    classes: int
    cell: int
    left: int
    top: int
    font_size: int
    named: bool

    @property
    def side(self) -> int:
        """Side of the matrix."""
        return self.classes * self.cell

    def cell_at(self, x: float, y: float) -> tuple[int, int] | None:
        """Return the true and the predicted class at a position in the picture; None outside the cells.

        >>> matrix_layout(["cat", "dog"]).cell_at(0, 0) is None
        True
        """
        row, column = int((y - self.top) // self.cell), int((x - self.left) // self.cell)
        return (row, column) if 0 <= row < self.classes and 0 <= column < self.classes else None


def matrix_layout(class_names: Sequence[str], title: str = "") -> MatrixLayout:
    """Return the layout of ``confusion_picture`` for the same classes and title."""
    classes = len(class_names)
    named = classes <= _NAMED
    cell = max(14, min(_MAX_CELL, _SIDE // classes)) if named else max(1, _MAX_SIDE // classes)
    font_size = max(11, min(24, cell - 3))
    margin = 2 * GAP
    if named:
        drawn = (drawable(name, font_size) for name in class_names)
        margin += round(min(_MAX_NAME_WIDTH, max(face.getlength(text) for text, face in drawn)))
    top = _title_height(title) + margin + font_size
    return MatrixLayout(classes, cell, margin + font_size + GAP, top, font_size, named)


def _title_height(title: str) -> int:
    return titled_canvas(title, 1, 1)[2]


def _lines(draw: ImageDraw.ImageDraw, left: int, top: int, cell: int, classes: int) -> None:
    """Draw a line between neighboring cells, or after every tenth if cells are small."""
    side = classes * cell
    for index in range(0, classes + 1, 1 if classes <= _NUMBERED else 10):
        draw.line([(left, top + index * cell), (left + side, top + index * cell)], "#cccccc")
        draw.line([(left + index * cell, top), (left + index * cell, top + side)], "#cccccc")


def _upright(canvas: Image.Image, text: str, bottom: tuple[int, int], size: int, color: str = INK) -> None:
    """Draw vertical text that starts at ``bottom`` and reads upward."""
    text, face = drawable(text, size)
    width = round(face.getlength(text)) + 2
    letters = Image.new("L", (width, size + 6))
    ImageDraw.Draw(letters).text((0, (size + 6) // 2), text, 255, face, anchor="lm")
    rotated = letters.transpose(Image.Transpose.ROTATE_90)
    canvas.paste(color, (bottom[0] - rotated.width // 2, bottom[1] - rotated.height), rotated)


def _numbers(
    draw: ImageDraw.ImageDraw,
    counts: np.ndarray,
    fraction: np.ndarray,
    shown: Unit,
    left: int,
    top: int,
    cell: int,
) -> None:
    longest = str(counts.max()) if shown == "counts" else "100"
    size = next((size for size in range(24, 9, -1) if font(size).getlength(longest) <= cell - 6), 9)
    for row, column in np.argwhere(counts > 0).tolist():
        text = str(counts[row, column]) if shown == "counts" else f"{100 * fraction[row, column]:.0f}"
        if text == "0":
            text = "<1"
        ink = "#ffffff" if fraction[row, column] > 0.3 else INK
        draw.text((left + (column + 0.5) * cell, top + (row + 0.5) * cell), text, ink, font(size), anchor="mm")


def _legend(canvas: Image.Image, draw: ImageDraw.ImageDraw, x: int, y: int, width: int) -> None:
    """Draw the color bar, from 0 on the left to 100% of the row on the right."""
    face = font(_LEGEND_SIZE)
    colors = matplotlib.colormaps["Blues"](np.linspace(0, 1, width), bytes=True)[None, :, :3]
    canvas.paste(Image.fromarray(colors.repeat(14, 0)), (x, y))
    for fraction, anchor in ((0, "la"), (0.1, "ma"), (0.25, "ma"), (0.5, "ma"), (1, "ra")):
        draw.text((x + fraction**0.5 * width, y + 16), f"{100 * fraction:.0f}", FAINT_INK, face, anchor=anchor)
    draw.text((x + width / 2, y + 16 + _LEGEND_SIZE), "% of the row", FAINT_INK, face, anchor="ma")
