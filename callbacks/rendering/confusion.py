"""Draw confusion matrices, legible with ten classes and with a hundred."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from callbacks.rendering.grid import GAP, titled_canvas
from callbacks.rendering.text import FAINT_INK, INK, font, truncate

Unit = Literal["counts", "rows"]
_MAX_NAME_WIDTH = 150  # pixels
_SIDE = 640  # pixels of all cells, unless class names need larger ones
_NUMBERED = 20  # classes; with more, cells are too small for numbers
_NAMED = 150  # classes; with more, rows are too small for names
_MAX_SIDE = 2000  # pixels of all cells, without class names


def confusion_picture(
    counts: np.ndarray, class_names: Sequence[str], shown: Unit = "counts", title: str = ""
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

    Returns:
        uint8 (height, width, 3).
    """
    layout = matrix_layout(class_names, title)
    cell, left, top, side = layout.cell, layout.left, layout.top, layout.side
    legend = GAP + 80
    canvas, draw, _ = titled_canvas(title, left + side + legend, top + side + 2 * GAP - _title_height(title))
    fraction = counts / counts.sum(1, keepdims=True).clip(1)
    colors = _shades(fraction)
    canvas.paste(Image.fromarray(colors.repeat(cell, 0).repeat(cell, 1)), (left, top))
    _lines(draw, left, top, cell, layout.classes)
    face = font(layout.font_size)
    for number, name in enumerate(class_names if layout.named else []):
        middle = (number + 0.5) * cell
        short = truncate(name, face, _MAX_NAME_WIDTH)
        draw.text((left - GAP, top + middle), short, INK, face, anchor="rm")
        _upright(canvas, short, (round(left + middle), top - GAP), layout.font_size)
    draw.text((left, _title_height(title)), "predicted class →", FAINT_INK, font(15))
    bottom = top + round(font(15).getlength("← true class"))
    _upright(canvas, "← true class", (layout.font_size // 2 + 2, bottom), 15, FAINT_INK)
    if layout.classes <= _NUMBERED:
        _numbers(draw, counts, fraction, shown, left, top, cell)
    _legend(canvas, draw, left + side + 2 * GAP, top, min(side - 24, 256))
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
    cell = max(14, min(64, _SIDE // classes)) if named else max(1, _MAX_SIDE // classes)
    font_size = max(11, min(18, cell - 3))
    margin = 2 * GAP
    if named:
        margin += round(min(_MAX_NAME_WIDTH, max(font(font_size).getlength(name) for name in class_names)))
    top = _title_height(title) + margin + font_size
    return MatrixLayout(classes, cell, margin + font_size + GAP, top, font_size, named)


def _title_height(title: str) -> int:
    return titled_canvas(title, 1, 1)[2]


def _shades(fraction: np.ndarray) -> np.ndarray:
    """Return colors uint8 (..., 3) from white to dark blue for fractions in [0, 1]."""
    return (matplotlib.colormaps["Blues"](np.sqrt(fraction))[..., :3] * 255).round().astype(np.uint8)


def _lines(draw: ImageDraw.ImageDraw, left: int, top: int, cell: int, classes: int) -> None:
    """Draw a line between neighboring cells, or after every tenth if cells are small."""
    side = classes * cell
    for index in range(0, classes + 1, 1 if classes <= _NUMBERED else 10):
        draw.line([(left, top + index * cell), (left + side, top + index * cell)], "#cccccc")
        draw.line([(left + index * cell, top), (left + index * cell, top + side)], "#cccccc")


def _upright(canvas: Image.Image, text: str, bottom: tuple[int, int], size: int, color: str = INK) -> None:
    """Draw vertical text that starts at ``bottom`` and reads upward."""
    face = font(size)
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
    size = next((size for size in range(20, 9, -1) if font(size).getlength(longest) <= cell - 6), 9)
    for row, column in np.argwhere(counts > 0).tolist():
        text = str(counts[row, column]) if shown == "counts" else f"{100 * fraction[row, column]:.0f}"
        if text == "0":
            text = "<1"
        ink = "#ffffff" if fraction[row, column] > 0.3 else INK
        draw.text((left + (column + 0.5) * cell, top + (row + 0.5) * cell), text, ink, font(size), anchor="mm")


def _legend(canvas: Image.Image, draw: ImageDraw.ImageDraw, x: int, y: int, height: int) -> None:
    """Draw the color bar, from 0 at the bottom to 100 % at the top."""
    fractions = np.linspace(1, 0, height)
    canvas.paste(Image.fromarray(_shades(fractions)[:, None].repeat(14, 1)), (x, y))
    for fraction in (0, 0.1, 0.25, 0.5, 1):
        draw.text((x + 18, y + (1 - fraction) * (height - 1)), f"{fraction:.0%}", FAINT_INK, font(13), anchor="lm")
    draw.text((x, y + height + GAP), "of the row", FAINT_INK, font(13))
