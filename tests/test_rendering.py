import numpy as np
import pytest
from PIL import ImageFont

from callbacks.rendering.charts import class_count_chart
from callbacks.rendering.grid import image_grid, shortened


def test_grid_enlarges_each_image_by_whole_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    grid = image_grid(pixels, ["a", "b", "c"], columns=2, tile=8)
    assert grid.dtype == np.uint8
    enlarged = pixels[0].repeat(2, 0).repeat(2, 1)
    assert np.array_equal(grid[8:16, 8:16], enlarged)
    assert np.array_equal(grid[8:16, 24:32], pixels[1].repeat(2, 0).repeat(2, 1))


def test_captions_are_drawn_below_and_never_wider_than_the_image() -> None:
    font = ImageFont.load_default(18)
    assert shortened("cat", font, 100) == "cat"
    long = shortened("a very long name of a class", font, 90)
    assert long.endswith("…")
    assert font.getlength(long) <= 90
    grid = image_grid(np.zeros((1, 8, 8, 3), np.uint8), ["cat"], tile=64)
    assert grid[75:].min() < 100  # ink


def test_no_images_give_a_picture_that_says_so() -> None:
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
