"""Fonts, colors and text in pictures."""

from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

BACKGROUND, INK, FAINT_INK = "#ffffff", "#222222", "#666666"
# Color-blind safe: Okabe & Ito's bluish green and vermillion, darkened for contrast on white
CORRECT_INK, WRONG_INK = "#00725a", "#b84a00"
FONT_SIZE = 18  # TensorBoard shows a whole picture 350 pixels wide
LINE_HEIGHT = 22


@cache
def font(size: int = FONT_SIZE, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, which ships with matplotlib; it has no Chinese, Japanese or Korean characters."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def truncate(text: str, face: ImageFont.FreeTypeFont, width: float) -> str:
    """Return the text, truncated with an ellipsis to at most ``width`` pixels."""
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def escape_mathtext(name: str) -> str:
    r"""Return a name that matplotlib draws literally, on one line, without parsing dollar signs as formulas.

    >>> print(escape_mathtext("a $b$\tc"))
    a \$b\$ c
    """
    return " ".join(name.split()).replace("$", r"\$")


def text_picture(text: str) -> np.ndarray:
    """Return lines of text as a picture, uint8 (height, width, 3)."""
    ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    _, _, right, bottom = ruler.multiline_textbbox((0, 0), text, font())
    canvas = Image.new("RGB", (max(320, round(right) + 32), round(bottom) + 32), BACKGROUND)
    ImageDraw.Draw(canvas).multiline_text((16, 16), text, INK, font())
    return np.asarray(canvas)
