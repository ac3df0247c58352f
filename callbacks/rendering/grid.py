"""Captioned grids of images, enlarged so that a person can see their pixels."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_BACKGROUND, _INK = "white", "#222222"
_GAP = 8  # pixels between tiles
_FONT_SIZE = 18  # TensorBoard shows the whole picture 350 pixels wide


def image_grid(pixels: np.ndarray, captions: Sequence[str], columns: int = 6, tile: int = 96) -> np.ndarray:
    """Images side by side, each enlarged by nearest neighbour, its caption below it.

    Args:
        pixels: uint8 (N, H, W, 3), RGB.
        captions: N texts; cut with an ellipsis where they are wider than an image.
        columns: Images in a row.
        tile: Width that an image is enlarged to, at most, by a whole factor; larger images are shown as they are.

    Returns:
        uint8 (height, width, 3); for no images, a picture that says so.

    Raises:
        ValueError: if there are not as many captions as images.
    """
    if len(pixels) != len(captions):
        raise ValueError(f"every image needs a caption, got {len(pixels)} images and {len(captions)} captions")
    if len(pixels) == 0:
        return _text_picture("no images")
    height, width = pixels.shape[1:3]
    scale = max(1, tile // max(height, width))
    tile_height, tile_width = height * scale, width * scale
    font = ImageFont.load_default(_FONT_SIZE)
    cell_height, cell_width = tile_height + _FONT_SIZE + 2 * _GAP, tile_width + _GAP
    columns = min(columns, len(pixels))
    rows = math.ceil(len(pixels) / columns)
    canvas = Image.new("RGB", (columns * cell_width + _GAP, rows * cell_height + _GAP), _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for place, (image, caption) in enumerate(zip(pixels, captions, strict=True)):
        left = _GAP + place % columns * cell_width
        top = _GAP + place // columns * cell_height
        enlarged = Image.fromarray(image).resize((tile_width, tile_height), Image.Resampling.NEAREST)
        canvas.paste(enlarged, (left, top))
        text = shortened(caption, font, tile_width)
        draw.text((left + tile_width / 2, top + tile_height + _GAP / 2), text, _INK, font, anchor="ma")
    return np.asarray(canvas)


def shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """The text, cut with an ellipsis to be at most ``width`` pixels wide."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _text_picture(text: str) -> np.ndarray:
    canvas = Image.new("RGB", (320, 64), _BACKGROUND)
    ImageDraw.Draw(canvas).text((160, 32), text, _INK, ImageFont.load_default(_FONT_SIZE), anchor="mm")
    return np.asarray(canvas)
