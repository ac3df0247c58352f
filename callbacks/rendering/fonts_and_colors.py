"""Fonts, colors and text in pictures."""

import math
import re
import unicodedata
from contextlib import suppress
from functools import cache
from pathlib import Path

import matplotlib
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

BACKGROUND, INK, FAINT_INK = "#ffffff", "#222222", "#666666"
# Color-blind safe: Okabe & Ito's bluish green and vermillion, darkened for contrast on white
CORRECT_INK, WRONG_INK = "#00725a", "#b84a00"
# On dark pages; the background is transparent
DARK = {BACKGROUND: "#16181c00", INK: "#e6e6e6", FAINT_INK: "#a9afb8", CORRECT_INK: "#4cc9a4", WRONG_INK: "#ff9d5c"}
LIGHT = {color: color for color in DARK}
FONT_SIZE = 18  # TensorBoard shows a whole picture 350 pixels wide
LINE_HEIGHT = 22
_WHITESPACE = frozenset(map(ord, " \n\t"))


_DEJAVU = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
# Fonts with Chinese, Japanese and Korean characters or emoji, by parts of their names
_FALLBACKS = re.compile("CJK|Noto Sans|WenQuan|Fallback|Unifont|YaHei|SimHei|PingFang|Hiragino|Gothic|Emoji|Symbola")


def font(size: int = FONT_SIZE, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, which ships with matplotlib; it has no Chinese, Japanese or Korean characters."""
    return _open_font(str(_DEJAVU / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")), size)


@cache
def _open_font(file: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size)


def drawable(
    text: str, size: int = FONT_SIZE, bold: bool = False, width: float = math.inf
) -> tuple[str, ImageFont.FreeTypeFont]:
    r"""Return a text as it can be drawn, and the font to draw it with.

    If the text is wider than ``width`` pixels, shrink the font by up to a third; truncate what still does not fit. If
    DejaVu Sans does not have a character, use an installed font that has all of the text; if there is none, replace
    each such character by its Unicode name or number.

    >>> drawable("\N{CAT FACE} a")[0] in ("\N{CAT FACE} a", "[cat face] a")
    True
    """
    characters = frozenset(map(ord, text)) - _WHITESPACE
    file = None
    if missing := characters - _characters(_DEJAVU / "DejaVuSans.ttf"):
        file = _installed_font(characters)
        if file is None:
            text = "".join(_unicode_name(char) if ord(char) in missing else char for char in text)
    face = _open_font(file, size) if file else font(size, bold)
    smallest = round(size * 2 / 3)
    while face.getlength(text) > width and face.size > smallest:
        face = _open_font(str(face.path), round(face.size) - 1)
    return truncate(text, face, width), face


def font_families() -> list[str]:
    """Return the names of the fonts for matplotlib, which uses the first that has a character."""
    return ["DejaVu Sans", *(name for name, _ in _fallback_fonts())]


def _unicode_name(char: str) -> str:
    r"""Return a short name of a character.

    >>> [_unicode_name(char) for char in "\N{CAT FACE}\N{HANGUL SYLLABLE GA}\u732b\udce9"]
    ['[cat face]', '[ga]', '[732B]', '[DCE9]']
    """
    name = unicodedata.name(char, "")
    if not name or "IDEOGRAPH" in name:
        return f"[{ord(char):04X}]"
    return f"[{re.sub('^.*(LETTER|SYLLABLE) ', '', name).lower()}]"


@cache
def _installed_font(characters: frozenset[int]) -> str | None:
    return next((file for _, file in _fallback_fonts() if characters <= _characters(Path(file))), None)


@cache
def _fallback_fonts() -> list[tuple[str, str]]:
    """Return names and files of installed fonts that can be scaled."""
    from matplotlib.font_manager import findSystemFonts, fontManager  # reads the list of all fonts

    for file in set(findSystemFonts()) - {entry.fname for entry in fontManager.ttflist}:  # installed after that list
        with suppress(RuntimeError, OSError):  # not scalable, or not readable
            fontManager.addfont(file)
    fonts = {entry.name: entry.fname for entry in fontManager.ttflist if _FALLBACKS.search(entry.name)}
    return sorted((name, file) for name, file in fonts.items() if "Color" not in name)


@cache
def _characters(file: Path) -> frozenset[int]:
    return frozenset(FT2Font(str(file)).get_charmap())


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
    return drawable(" ".join(name.split()))[0].replace("$", r"\$")
