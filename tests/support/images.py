"""Small images in class folders."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_class_folders(
    root: Path,
    classes: tuple[str, ...] = ("cat", "dog"),
    train: int = 10,
    test: int = 4,
    size: tuple[int, int] = (12, 12),
    suffix: str = "png",
) -> Path:
    """Write images to ``root/train/<class>/`` and ``root/test/<class>/``: one color per class, plus noise."""
    random = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for label, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 60, (*size, 3), dtype=np.uint8)
                pixels[..., label % 3] += 150
                Image.fromarray(pixels).save(folder / f"{number:03}.{suffix}")
    return root


def write_noise(*names: str) -> list[Path]:
    """Write an image of noise under each name; return their paths."""
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(name)
    return [Path(name).absolute() for name in names]


def random_photo(seed: int, size: tuple[int, int] = (96, 80)) -> Image.Image:
    """Return an image of a given width and height with large and small random shapes, as in a photo."""
    random = np.random.default_rng(seed)
    layers = [
        np.asarray(Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8)).resize(size))
        for cells in (3, 6, 12, 48)
    ]
    return Image.fromarray(np.average(layers, axis=0, weights=(4, 3, 2, 2)).astype(np.uint8))
