"""Common corruptions, compared with independent implementations."""

import io

import numpy as np
import pytest
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy import ndimage

from cifar_lit.evaluation.corruptions import KINDS, SEVERITIES, corrupt


@pytest.mark.parametrize("kind", KINDS)
def test_corruptions_are_deterministic_and_grow_with_severity(kind: str) -> None:
    y, x = np.mgrid[:32, :32]
    smooth = np.stack([128 + 100 * np.sin(x / 3), 128 + 100 * np.cos(y / 4), 64 + 2 * (x + y)], -1)
    images = np.repeat(smooth.clip(0, 255).astype(np.uint8)[None], 6, 0)
    changes = []
    for severity in range(1, SEVERITIES + 1):
        result = corrupt(images, kind, severity)
        assert result.dtype == np.uint8
        assert result.shape == images.shape
        assert np.array_equal(result, corrupt(images, kind, severity))
        changes.append(np.abs(result.astype(int) - images).mean())
    assert changes[0] > 0
    assert changes[-1] > changes[0] or kind == "saturation"  # its first two severities remove color


def test_corruptions_have_the_statistics_of_their_kind() -> None:
    images = np.random.default_rng(0).integers(60, 200, (40, 32, 32, 3), dtype=np.uint8)
    noise = corrupt(images, "gaussian noise", 5).astype(float) - images
    assert noise.std() / 255 == pytest.approx(0.10, rel=0.05)
    blurred = corrupt(images, "gaussian blur", 5)
    for channel in range(3):
        expected = ndimage.gaussian_filter(images[0, ..., channel].astype(np.float32), 1.0, mode="nearest")
        assert np.abs(blurred[0, ..., channel] - expected).max() <= 1
    contrast = corrupt(images, "contrast", 5)
    assert contrast.std((1, 2)) == pytest.approx(0.15 * images.std((1, 2)), rel=0.05)
    impulses = corrupt(images, "impulse noise", 5)
    assert np.isin(impulses, (0, 255)).mean() == pytest.approx(0.07, rel=0.1)
    bright = corrupt(images, "brightness", 2).astype(float)
    assert (bright.max(-1) - images.max(-1)).mean() / 255 == pytest.approx(0.1, rel=0.05)


def test_motion_blur_spreads_a_pixel_along_a_line() -> None:
    images = np.zeros((8, 33, 33, 3), np.uint8)
    images[:, 16, 16] = 255
    for image in corrupt(images, "motion blur", 5).astype(float):
        y, x = np.nonzero(image[..., 0])
        assert image.sum() == pytest.approx(3 * 255, rel=0.1)
        assert image[16, 16].min() == image.max()  # brightest at the start of the line
        assert len(y) <= 10  # a line, not a disk
        down, right = y - 16, x - 16
        end = np.hypot(down, right).argmax()
        distance = np.abs(down * right[end] - right * down[end]) / np.hypot(down[end], right[end])  # from the line
        assert distance.max() <= 1


def test_jpeg_and_pixelation_match_pil() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=40)
    assert np.array_equal(corrupt(image[None], "jpeg", 5)[0], np.asarray(Image.open(file)))
    box = Image.Resampling.BOX
    small = Image.fromarray(image).resize((20, 20), box).resize((32, 32), box)
    assert np.array_equal(corrupt(image[None], "pixelation", 5)[0], np.asarray(small))
    larger = image.repeat(4, 0).repeat(4, 1)
    blocks = corrupt(larger[None], "pixelation", 5)[0]
    assert len({tuple(pixel) for row in blocks for pixel in row}) <= 20 * 20  # no more blocks than in a small image


@pytest.mark.parametrize(("kind", "severity"), [("brightness", 3), ("saturation", 2), ("saturation", 5)])
def test_brightness_and_saturation_change_hsv(kind: str, severity: int) -> None:
    image = np.random.default_rng(0).integers(1, 256, (32, 32, 3), dtype=np.uint8)
    hsv = rgb_to_hsv(image / 255)
    if kind == "brightness":
        hsv[..., 2] += 0.15
    else:
        factor, more = {2: (0.1, 0), 5: (2.5, 0.2)}[severity]
        hsv[..., 1] = hsv[..., 1] * factor + more
    expected = 255 * hsv_to_rgb(hsv.clip(0, 1))
    assert np.abs(corrupt(image[None], kind, severity)[0] - expected).max() <= 1
