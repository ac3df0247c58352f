from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgba

from callbacks.rendering import fonts_and_colors
from callbacks.rendering.charts import class_count_chart, curves_chart, reliability_diagram
from callbacks.rendering.confusion import confusion_picture, matrix_layout
from callbacks.rendering.explanation_grid import explanation_grid
from callbacks.rendering.fonts_and_colors import (
    BACKGROUND,
    CORRECT_INK,
    DARK,
    FAINT_INK,
    INK,
    LIGHT,
    WRONG_INK,
    drawable,
    font,
    truncate,
)
from callbacks.rendering.grid import image_grid
from callbacks.rendering.overlay import colorize, overlay


def test_grid_enlarges_images_by_an_integer_factor() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    grid = image_grid(pixels, ["a", "b", "c"], columns=2, tile=8)
    assert grid.dtype == np.uint8
    enlarged = pixels[0].repeat(2, 0).repeat(2, 1)
    assert np.array_equal(grid[8:16, 8:16], enlarged)
    assert np.array_equal(grid[8:16, 24:32], pixels[1].repeat(2, 0).repeat(2, 1))


def test_a_dark_grid_has_the_same_images_and_legible_captions() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3), dtype=np.uint8)
    light, dark = (image_grid(pixels, ["cat"], tile=96, title="title", dark=value) for value in (False, True))
    same = (light == dark[..., :3]).all(2)
    assert same.sum() == 96 * 96
    assert (light[0, 0].tolist(), dark[0, 0].tolist()) == ([255] * 3, [22, 24, 28, 0])
    for colors in (LIGHT, DARK):
        for ink in (INK, FAINT_INK, CORRECT_INK, WRONG_INK):
            lighter, darker = sorted((luminance(colors[ink]), luminance(colors[BACKGROUND])), reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (ink, colors)


def luminance(color: str) -> float:
    """Return the relative luminance of a color, as in WCAG 2.2."""
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in to_rgba(color)[:3]]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_captions_are_drawn_below_and_truncated_to_the_image_width() -> None:
    assert truncate("cat", font(), 100) == "cat"
    long = truncate("a very long name of a class", font(), 90)
    assert long.endswith("…")
    assert font().getlength(long) <= 90
    full = font().getlength("automobile")
    text_shown, face = drawable("automobile", width=0.8 * full)
    assert (text_shown, face.size < font().size, face.getlength(text_shown) <= 0.8 * full) == ("automobile", True, True)
    text_shown, face = drawable("automobile", width=0.5 * full)
    assert text_shown.endswith("…")
    assert face.size == font().size * 2 / 3
    grid = image_grid(np.zeros((1, 8, 8, 3), np.uint8), ["cat"], tile=64)
    assert grid[75:].min() < 100  # text


def test_grid_without_images_is_a_text_picture() -> None:
    assert image_grid(np.zeros((0, 8, 8, 3), np.uint8), []).std() > 0
    with pytest.raises(ValueError, match="every image needs a caption"):
        image_grid(np.zeros((1, 8, 8, 3), np.uint8), [])


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_count_chart_has_a_bar_for_each_class_and_split(classes: int) -> None:
    names = [f"class {number}" for number in range(classes)]
    chart = class_count_chart(names, {"train": [5] * classes, "val": [1] * classes})
    assert chart.dtype == np.uint8
    assert chart.shape[2] == 3
    assert chart.shape[0] >= 20 * classes


def test_title_widens_the_picture_and_captions_may_have_several_lines() -> None:
    black = np.zeros((1, 8, 8, 3), np.uint8)
    plain, titled = image_grid(black, ["a"]), image_grid(black, ["a\nb"], title="a title\nand what it is about")
    assert titled.shape[1] > plain.shape[1]
    assert titled.shape[0] == plain.shape[0] + 22 + 14 + 2 * 22  # one line more below, and two above


# Overlays


def random_images(count: int, size: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("colormap", ["inferno", "viridis", "cividis", "turbo", "jet"])
def test_opacity_0_is_the_image_and_1_the_heatmap(colormap: str) -> None:
    pixels, heat = random_images(2), np.random.default_rng(1).random((2, 8, 8))
    assert np.array_equal(overlay(pixels, heat, 0, colormap), pixels)
    assert np.array_equal(overlay(pixels, heat, 1, colormap), colorize(heat, colormap))
    half = overlay(pixels, heat, 0.5, colormap).astype(int)
    assert np.abs(half - (pixels.astype(int) + colorize(heat, colormap)) / 2).max() <= 0.5


def test_hot_colors_are_bright_and_channels_are_rgb() -> None:
    cold, hot = colorize(np.array([[0.0, 1.0]]), "inferno")[0].astype(int)
    assert hot.sum() > 500 > 20 > cold.sum()  # from black to pale yellow
    assert hot[0] > hot[2]
    blue, red = colorize(np.array([[0.0, 1.0]]), "jet")[0].astype(int)
    assert blue[2] > blue[0]
    assert red[0] > red[2]
    image = np.zeros((1, 1, 3), np.uint8)
    image[..., 0] = 200  # red
    assert overlay(image, np.zeros((1, 1)), 0.5, "inferno")[0, 0].tolist() == [100, 0, 2]


@pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan")])
def test_opacity_out_of_range_raises(opacity: float) -> None:
    with pytest.raises(ValueError, match="opacity must be from 0"):
        overlay(random_images(1), np.zeros((1, 8, 8)), opacity)


def explained(opacity: float = 0.5, images: int = 3) -> np.ndarray:
    heat = np.random.default_rng(1).random((images, 2, 8, 8))
    texts = [["a", "b"]] * images
    return explanation_grid(random_images(images), heat, ["c"] * images, texts, opacity, "inferno", tile=16)


def test_explanation_grid_shows_image_and_overlays_side_by_side() -> None:
    grid = explained()
    enlarged = random_images(3)[0].repeat(2, 0).repeat(2, 1)
    heat = np.random.default_rng(1).random((3, 2, 8, 8)).repeat(2, 2).repeat(2, 3)
    tiles = [grid[8:24, left : left + 16] for left in (8, 32, 56)]
    assert np.array_equal(tiles[0], enlarged)
    for column in (0, 1):
        assert np.array_equal(tiles[1 + column], overlay(enlarged, heat[0, column], 0.5))


def test_explanation_grid_without_images_is_a_text_picture_and_mismatches_raise() -> None:
    assert explained(images=0).std() > 0
    with pytest.raises(ValueError, match="every image needs a caption"):
        explanation_grid(random_images(3), np.zeros((3, 2, 8, 8)), ["a"] * 3, [["b"]] * 3)


# Confusion matrix and reliability diagram


@pytest.mark.parametrize("shown", ["counts", "rows"])
@pytest.mark.parametrize("classes", [1, 2, 10, 100])
def test_confusion_picture_has_a_cell_for_each_pair_of_classes(classes: int, shown: str) -> None:
    counts = np.eye(classes, dtype=int) * 90
    if classes > 2:
        counts[0, 1], counts[1] = 10, 0  # a class without images has no fraction
    names = [f"class {label}" for label in range(classes)]
    picture = confusion_picture(counts, names, shown, "title")
    dark = picture.astype(int).sum(2) < 250
    assert dark.sum() > 0
    empty = confusion_picture(np.zeros_like(counts), names, shown, "title")
    cell = max(14, min(54, 640 // classes))
    changed = np.argwhere((picture != empty).any(2))
    top, left = changed.min(0)
    bottom, right = changed.max(0)
    lines = 2
    assert abs(bottom - top + 1 - cell * classes) <= lines
    assert abs(right - left + 1 - cell * classes) <= lines


@pytest.mark.parametrize("last", [0.01, 1.0])  # the axis of the first is logarithmic
def test_a_curve_fills_its_chart(last: float) -> None:
    curve = [(step, last ** (step / 10) * 2) for step in range(11)]
    chart = curves_chart("loss", {"train": curve, "missing": []})
    rows = (chart[:340] == [0x00, 0x72, 0xB2]).all(2).any(1).nonzero()[0]  # above the legend
    assert (rows.max() - rows.min() > 200) == (last < 1)


def test_reliability_diagram_omits_empty_bins() -> None:
    centers = np.array([0.25, 0.75])
    diagram = reliability_diagram(np.stack([centers, centers, np.array([0.0, 1.0])]), "before", "title")
    assert diagram.shape == (460, 400, 3)
    assert diagram.dtype == np.uint8


def test_the_selected_cell_of_a_confusion_matrix_is_outlined() -> None:
    counts, names = np.full((3, 3), 5), ["a", "b", "c"]
    plain, outlined = confusion_picture(counts, names), confusion_picture(counts, names, selected=(0, 2))
    layout = matrix_layout(names)
    rows, columns = (plain != outlined).any(2).nonzero()
    cells = {layout.cell_at(x, y) for x, y in zip(columns.tolist(), rows.tolist(), strict=True)}
    assert (0, 2) in cells
    assert cells <= {(0, 2), (0, 1), (1, 2), (1, 1), None}  # the outline lies on the border


# Names in any script

NAMES = ["\u732b", "\u72d7", "\N{SLICE OF PIZZA}", "\N{HAMBURGER}", "\N{HANGUL SYLLABLE GA}", "caf\u00e9"]


@pytest.mark.parametrize("has_fonts", [False, True])
def test_names_without_a_glyph_are_told_apart(has_fonts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_fonts:
        monkeypatch.setattr(fonts_and_colors, "_installed_font", lambda characters: None)
    black = np.zeros((1, 8, 8, 3), np.uint8)
    grids = [image_grid(black, [name], tile=200) for name in NAMES]
    matrices = [confusion_picture(np.eye(2, dtype=int), [name, "b"]) for name in NAMES]
    for pictures in (grids, matrices):
        assert len({picture.tobytes() for picture in pictures}) == len(NAMES)
    charts = [class_count_chart([name, "b"], {"train": [1, 2]}) for name in NAMES]
    assert len({chart.tobytes() for chart in charts}) == len(NAMES)
    if not has_fonts:
        assert drawable("\u732b \N{HAMBURGER}")[0] == "[732B] [hamburger]"


@pytest.mark.parametrize("name", ["W" * 200, "\u00e4" * 200, "a b\t" * 50, "$x_1$"])
def test_count_chart_has_room_for_any_name(name: str) -> None:
    assert class_count_chart([name, "b"], {"train": [1, 2], "val": [3, 4]}).shape[1] == 400


def test_an_installed_font_is_used_if_it_has_the_character(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    known = fonts_and_colors._characters(folder / "DejaVuSans.ttf")
    char = chr(min(fonts_and_colors._characters(folder / "STIXGeneral.ttf") - known))
    monkeypatch.setattr(fonts_and_colors, "_fallback_fonts", lambda: [("STIXGeneral", str(folder / "STIXGeneral.ttf"))])
    fonts_and_colors._installed_font.cache_clear()
    shown, face = drawable(f"a{char}")
    fonts_and_colors._installed_font.cache_clear()
    assert (shown, face.getname()[0]) == (f"a{char}", "STIXGeneral")
