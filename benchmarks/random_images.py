"""Random images, for benchmarks where only their number and storage matter."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cifar_lit.data.batches import ImageTensors
from cifar_lit.data.datamodule import ImageDataModule, Split


class RandomImages(ImageDataModule):
    """Random 32x32 images in ten classes, in memory or memory-mapped from a file.

    Args:
        count: Number of images for training and validation; CIFAR-10 has 50,000.
        for_validation: Number of additional images for validation only; if 0, some of ``count`` are held out.
        mapped: File written by ``write_images`` to memory-map, as decoded image folders are.
        **kwargs: See ImageDataModule.
    """

    class_names = [f"class {label}" for label in range(10)]  # noqa: RUF012
    image_size = (32, 32)
    own_statistics = ([0.5] * 3, [0.25] * 3)

    def __init__(self, count: int = 50_000, for_validation: int = 0, mapped: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.count, self.for_validation, self.mapped = count, for_validation, mapped

    def load(self, split: Split) -> ImageTensors | None:
        """Return the images for training, or the additional ones for validation."""
        if split == "val" and self.for_validation:
            return _random_images(self.for_validation, seed=1)
        return self._images if split == "train" else None

    @cached_property
    def _images(self) -> ImageTensors:
        if self.mapped is None:
            return _random_images(self.count, seed=0)
        return ImageTensors(torch.from_numpy(np.load(self.mapped, mmap_mode="c")), torch.arange(self.count) % 10)


def _random_images(count: int, seed: int) -> ImageTensors:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return ImageTensors(pixels, torch.arange(count) % 10)


def write_images(file: Path, count: int) -> None:
    """Write random images, uint8 (count, 3, 32, 32), to a .npy file, block by block."""
    random = np.random.default_rng(0)
    images = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(count, 3, 32, 32))
    for start in range(0, count, 10_000):
        block = images[start : start + 10_000]
        block[:] = random.integers(0, 256, block.shape, dtype=np.uint8)
    images.flush()
