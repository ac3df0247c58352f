"""Synthetic out-of-distribution images, to measure whether a network detects them."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from callbacks.rendering.fonts_and_colors import font


def ood_samples(count: int, size: tuple[int, int], class_names: Sequence[str], seed: int = 0) -> dict[str, Tensor]:
    """Return noise, textures, letters and digits, uint8 (count, 3, H, W) by kind.

    Args:
        count: Number of images of each kind.
        size: Height and width.
        class_names: The classes; letters and digits are left out if classes have such names.
        seed: Seed of the random images.
    """
    random = np.random.default_rng(seed)
    kinds = {
        "noise": random.integers(0, 256, (count, *size, 3), dtype=np.uint8),
        "textures": _textures(random, count, size),
    }
    if not any(len(name) == 1 and name.isalpha() for name in class_names):
        kinds["letters"] = _characters("ABCDEFGHJKLMNPQRSTUVWXYZ", random, count, size)
    if not _DIGITS & {name.lower() for name in class_names}:
        kinds["digits"] = _characters("0123456789", random, count, size)
    return {kind: torch.from_numpy(images).permute(0, 3, 1, 2).contiguous() for kind, images in kinds.items()}


_DIGITS = {*"0123456789", "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}


def _textures(random: np.random.Generator, count: int, size: tuple[int, int]) -> np.ndarray:
    """Return waves of random direction, length and colors."""
    y, x = np.mgrid[: size[0], : size[1]] / max(size)
    angle, waves = random.uniform(0, np.pi, (count, 1, 1)), random.uniform(2, 8, (count, 1, 1))
    phase = 2 * np.pi * (waves * (x * np.cos(angle) + y * np.sin(angle)) + random.uniform(0, 1, (count, 1, 1)))
    weight = (0.5 + 0.5 * np.sin(phase))[..., None]
    first, second = random.uniform(0, 255, (2, count, 1, 1, 3))
    images: np.ndarray = (weight * first + (1 - weight) * second).round().astype(np.uint8)
    return images


def _characters(characters: str, random: np.random.Generator, count: int, size: tuple[int, int]) -> np.ndarray:
    """Return a character of random color on another color."""
    images = []
    for _ in range(count):
        ground, ink = (tuple(random.integers(0, 256, 3).tolist()) for _ in range(2))
        image = Image.new("RGB", (size[1], size[0]), ground)
        middle = (size[1] / 2, size[0] / 2)
        ImageDraw.Draw(image).text(middle, str(random.choice(list(characters))), ink, font(min(size) * 3 // 4), "mm")
        images.append(np.asarray(image))
    return np.stack(images)
