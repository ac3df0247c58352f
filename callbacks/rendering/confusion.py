"""Confusion matrices as pictures that can be read, with ten classes and with a hundred."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from callbacks.rendering.grid import GAP, titled_canvas
from callbacks.rendering.text import FAINT_INK, INK, font, truncate

Unit = Literal["counts", "rows"]
_LONGEST_NAME = 150  # pixels
_SIDE = 640  # pixels that the cells take, as long as each can hold a name's letters beside it
_NUMBERED = 20  # classes, above which a cell is too small for its number
_NAMED = 150  # classes, above which a row is too low for its name
_LARGEST_SIDE = 2000  # pixels that the cells take where they have no names


def confusion_picture(
    counts: np.ndarray, class_names: Sequence[str], shown: Unit = "counts", title: str = ""
) -> np.ndarray:
    """A confusion matrix: a row for each true class, a column for each predicted one.

    A cell's colour is its share of its row, whichever numbers are shown, so that classes of unequal size compare. The
    colours change by the share's square root: mistakes are rare, and would be all but white.

    Args:
        counts: int (C, C), images of the row's class that were taken for the column's.
        class_names: The C classes.
        shown: The numbers in the cells: ``counts``, or ``rows``: per cent of the images of the row's class. Above 20
            classes the cells are too small for them, above 150 for the classes' names.
        title: Lines above the matrix, the first in bold letters.

    Returns:
        uint8 (height, width, 3).
    """
    place = matrix_layout(class_names, title)
    cell, left, top, side = place.cell, place.left, place.top, place.side
    legend = GAP + 80
    canvas, draw, _ = titled_canvas(title, left + side + legend, top + side + 2 * GAP - _title_height(title))
    share = counts / counts.sum(1, keepdims=True).clip(1)
    colors = _shades(share)
    canvas.paste(Image.fromarray(colors.repeat(cell, 0).repeat(cell, 1)), (left, top))
    _lines(draw, left, top, cell, place.classes)
    face = font(place.letters)
    for number, name in enumerate(class_names if place.named else []):
        middle = (number + 0.5) * cell
        short = truncate(name, face, _LONGEST_NAME)
        draw.text((left - GAP, top + middle), short, INK, face, anchor="rm")
        _upright(canvas, short, (round(left + middle), top - GAP), place.letters)
    draw.text((left, _title_height(title)), "predicted class →", FAINT_INK, font(15))
    bottom = top + round(font(15).getlength("← true class"))
    _upright(canvas, "← true class", (place.letters // 2 + 2, bottom), 15, FAINT_INK)
    if place.classes <= _NUMBERED:
        _numbers(draw, counts, share, shown, left, top, cell)
    _legend(canvas, draw, left + side + 2 * GAP, top, min(side - 24, 256))
    return np.asarray(canvas)


class MatrixLayout(NamedTuple):
    """Where the cells of a confusion matrix's picture are, in pixels.

    classes: How many rows and columns there are.
    cell: Side of a cell.
    left, top: Of the first cell.
    letters: Size of the classes' names; named: whether they are there at all.
    """

    classes: int
    cell: int
    left: int
    top: int
    letters: int
    named: bool

    @property
    def side(self) -> int:
        """Of the whole matrix."""
        return self.classes * self.cell

    def cell_at(self, x: float, y: float) -> tuple[int, int] | None:
        """The row and the column (true and predicted class) of a place in the picture; None beside the cells.

        >>> matrix_layout(["cat", "dog"]).cell_at(0, 0) is None
        True
        """
        row, column = int((y - self.top) // self.cell), int((x - self.left) // self.cell)
        return (row, column) if 0 <= row < self.classes and 0 <= column < self.classes else None


def matrix_layout(class_names: Sequence[str], title: str = "") -> MatrixLayout:
    """The layout of ``confusion_picture`` for these classes and that title."""
    classes = len(class_names)
    named = classes <= _NAMED
    cell = max(14, min(64, _SIDE // classes)) if named else max(1, _LARGEST_SIDE // classes)
    letters = max(11, min(18, cell - 3))
    margin = 2 * GAP
    if named:
        margin += round(min(_LONGEST_NAME, max(font(letters).getlength(name) for name in class_names)))
    top = _title_height(title) + margin + letters
    return MatrixLayout(classes, cell, margin + letters + GAP, top, letters, named)


def _title_height(title: str) -> int:
    return titled_canvas(title, 1, 1)[2]


def _shades(share: np.ndarray) -> np.ndarray:
    """uint8 (..., 3), from white to dark blue, of shares in [0, 1]."""
    return (matplotlib.colormaps["Blues"](np.sqrt(share))[..., :3] * 255).round().astype(np.uint8)


def _lines(draw: ImageDraw.ImageDraw, left: int, top: int, cell: int, classes: int) -> None:
    """A line between every two cells; where they are small, after every tenth, to find one's way by."""
    side = classes * cell
    for place in range(0, classes + 1, 1 if classes <= _NUMBERED else 10):
        draw.line([(left, top + place * cell), (left + side, top + place * cell)], "#cccccc")
        draw.line([(left + place * cell, top), (left + place * cell, top + side)], "#cccccc")


def _upright(canvas: Image.Image, text: str, bottom: tuple[int, int], size: int, color: str = INK) -> None:
    """Writes from the bottom up, with the middle of the first letter's line there."""
    face = font(size)
    width = round(face.getlength(text)) + 2
    letters = Image.new("L", (width, size + 6))
    ImageDraw.Draw(letters).text((0, (size + 6) // 2), text, 255, face, anchor="lm")
    turned = letters.transpose(Image.Transpose.ROTATE_90)
    canvas.paste(color, (bottom[0] - turned.width // 2, bottom[1] - turned.height), turned)


def _numbers(
    draw: ImageDraw.ImageDraw,
    counts: np.ndarray,
    share: np.ndarray,
    shown: Unit,
    left: int,
    top: int,
    cell: int,
) -> None:
    longest = str(counts.max()) if shown == "counts" else "100"
    size = next((size for size in range(20, 9, -1) if font(size).getlength(longest) <= cell - 6), 9)
    for row, column in np.argwhere(counts > 0).tolist():
        text = str(counts[row, column]) if shown == "counts" else f"{100 * share[row, column]:.0f}"
        if text == "0":
            text = "<1"
        ink = "#ffffff" if share[row, column] > 0.3 else INK
        draw.text((left + (column + 0.5) * cell, top + (row + 0.5) * cell), text, ink, font(size), anchor="mm")


def _legend(canvas: Image.Image, draw: ImageDraw.ImageDraw, x: int, y: int, height: int) -> None:
    """What the colours mean: shares of a row, from 0 at the bottom to all at the top."""
    shares = np.linspace(1, 0, height)
    canvas.paste(Image.fromarray(_shades(shares)[:, None].repeat(14, 1)), (x, y))
    for share in (0, 0.1, 0.25, 0.5, 1):
        draw.text((x + 18, y + (1 - share) * (height - 1)), f"{share:.0%}", FAINT_INK, font(13), anchor="lm")
    draw.text((x, y + height + GAP), "of the row", FAINT_INK, font(13))
