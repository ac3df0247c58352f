"""Brightness, contrast and sharpness, by numpy and SciPy, and the faults of altered images."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from scipy import ndimage

from cifar_lit.evaluation.image_quality import QualityThresholds, find_faults, image_quality
from tests.support.images import random_photo


def measure(*images: Image.Image) -> list[list[float]]:
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)
    return torch.stack(list(image_quality(pixels)), 1).tolist()


def test_measurements_equal_those_of_scipy() -> None:
    images = [random_photo(seed, (20, 20)) for seed in range(300)]  # more than a batch
    kernel = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]])
    for image, (brightness, contrast, sharpness) in zip(images, measure(*images), strict=True):
        rgb = np.asarray(image).astype(float)
        gray = rgb @ [0.299, 0.587, 0.114]
        levels = np.sort(np.sqrt((rgb**2) @ [0.241, 0.691, 0.068]), axis=None) / 255
        assert brightness == pytest.approx(levels[round(0.99 * 400) - 1], abs=1e-4)
        assert contrast == pytest.approx(gray.std(), rel=1e-4)
        assert sharpness == pytest.approx(ndimage.convolve(gray, kernel, mode="nearest").std() / gray.std(), rel=1e-3)


@pytest.mark.parametrize(
    ("image", "faults"),
    [
        (random_photo(0, (64, 64)), []),
        (random_photo(0, (64, 64)).point(lambda value: value // 5), ["dark"]),
        (random_photo(0, (64, 64)).filter(ImageFilter.GaussianBlur(3)), ["blurry"]),
        (Image.new("RGB", (64, 64), "gray"), ["near-uniform"]),
        (Image.new("RGB", (64, 64), "black"), ["near-uniform"]),
        (random_photo(0, (64, 64)).resize((31, 64)), ["tiny"]),
        (random_photo(0, (130, 40)), ["odd aspect ratio"]),
    ],
    ids=["clean", "dark", "blurry", "gray", "black", "tiny", "odd"],
)
def test_faults_are_found(image: Image.Image, faults: list[str]) -> None:
    [[brightness, contrast, sharpness]] = measure(image)
    found = find_faults(image.size, (brightness, contrast, sharpness), QualityThresholds())
    assert [kind for kind, _ in found] == faults


def test_huge_images_are_found() -> None:
    assert find_faults((10_000, 6_000), (0.9, 50.0, 2.0), QualityThresholds()) == [("huge", "10000x6000")]
