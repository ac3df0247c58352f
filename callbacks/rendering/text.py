"""Letters in pictures."""

from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

BACKGROUND, INK, FAINT_INK = "#ffffff", "#222222", "#666666"
# Okabe & Ito's bluish green and vermillion, darkened to be read on white, which the colour-blind tell apart
RIGHT_INK, WRONG_INK = "#00725a", "#b84a00"
FONT_SIZE = 18  # TensorBoard shows a whole picture 350 pixels wide
LINE_HEIGHT = 22


@cache
def font(size: int = FONT_SIZE, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: Latin, Greek, Cyrillic and Arabic letters, but no Chinese ones."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def truncate(text: str, face: ImageFont.FreeTypeFont, width: float) -> str:
    """The text, cut with an ellipsis to be at most ``width`` pixels wide."""
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def escape_mathtext(name: str) -> str:
    r"""A name such that matplotlib draws its letters, and takes no dollars for formulas.

    >>> print(escape_mathtext("a $b$\tc"))
    a \$b\$ c
    """
    return " ".join(name.split()).replace("$", r"\$")


def text_picture(text: str) -> np.ndarray:
    """Lines of text as a picture, uint8 (height, width, 3), for where there is nothing else to show."""
    probe = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    _, _, right, bottom = probe.multiline_textbbox((0, 0), text, font())
    canvas = Image.new("RGB", (max(320, round(right) + 32), round(bottom) + 32), BACKGROUND)
    ImageDraw.Draw(canvas).multiline_text((16, 16), text, INK, font())
    return np.asarray(canvas)
