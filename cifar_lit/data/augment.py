"""Augmentations of batches, on the device of the batch.

Random numbers are drawn per sample from (seed, epoch, index), so the augmented images do not depend on the batch size
or on the number of workers or processes.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cifar_lit.errors import InputError
from cifar_lit.randomness import SampleRandom


class Augmentation(ABC):
    """Base class of random augmentations of a batch."""

    @abstractmethod
    def __call__(self, pixels: Tensor, random: SampleRandom, mean: Sequence[float]) -> Tensor:
        """Return augmented pixels, uint8, of the same shape unless ``output_sizes`` is overridden.

        Args:
            pixels: uint8 (N, C, H, W), 0 to 255; not modified.
            random: Random numbers, one per sample in each draw.
            mean: Mean of each channel of the dataset, in [0, 1].
        """

    def output_sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Return every possible output (height, width) for this input size; by default, the input size."""
        return [size]


def apply_augmentations(
    augmentations: Sequence[Augmentation], pixels: Tensor, random: SampleRandom, mean: Sequence[float]
) -> Tensor:
    """Apply augmentations in order; see Augmentation for the arguments.

    Raises:
        InputError: If one of them does not return uint8.
    """
    for augmentation in augmentations:
        pixels = augmentation(pixels, random, mean)
        if pixels.dtype != torch.uint8:
            name = type(augmentation).__name__
            raise InputError(f"{name} must return pixels of torch.uint8 (0 to 255), got {pixels.dtype}; convert them")
    return pixels


class RandomCrop(Augmentation):
    """Pad each image, then crop it to its original size at a random position.

    Args:
        padding: Pixels added on each side, the largest shift in each direction.
        mode: How to pad: mirror the image at its edge, repeat the edge, or fill with black or with the mean color of
            the dataset.
    """

    def __init__(self, padding: int = 4, mode: Literal["reflect", "edge", "black", "mean"] = "reflect") -> None:
        if padding < 1:
            raise InputError(
                f"RandomCrop: padding must be at least 1, got {padding}; remove RandomCrop to switch it off"
            )
        self.padding = padding
        self.mode = mode

    def __call__(self, pixels: Tensor, random: SampleRandom, mean: Sequence[float]) -> Tensor:
        """Return images shifted by up to ``padding`` pixels in each direction."""
        batch, _, height, width = pixels.shape
        positions = 2 * self.padding + 1
        top, left = random.integers(0, positions), random.integers(0, positions)
        windows = self._pad(pixels, mean).unfold(2, height, 1).unfold(3, width, 1)  # (N, C, positions, positions, H, W)
        return windows[torch.arange(batch, device=pixels.device), :, top, left]

    def _pad(self, pixels: Tensor, mean: Sequence[float]) -> Tensor:
        height, width = pixels.shape[-2:]
        if self.mode == "mean":
            shape = (len(pixels), 1, height + 2 * self.padding, width + 2 * self.padding)
            padded = _to_color(tuple(mean), pixels.device).repeat(shape)
            padded[..., self.padding : -self.padding, self.padding : -self.padding] = pixels
            return padded
        if self.mode == "reflect" and self.padding >= min(height, width):
            raise InputError(
                f"RandomCrop: padding with mode reflect must be smaller than the images ({height}x{width}), got"
                f" {self.padding}; reduce it or use mode edge"
            )
        mode = {"reflect": "reflect", "edge": "replicate", "black": "constant"}[self.mode]
        return F.pad(pixels, [self.padding] * 4, mode=mode)


class HorizontalFlip(Augmentation):
    """Flip each image horizontally with a given probability.

    Args:
        p: Probability of a flip.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = _check_probability("HorizontalFlip", p)

    def __call__(self, pixels: Tensor, random: SampleRandom, mean: Sequence[float]) -> Tensor:
        """Return the images, a random subset of them flipped."""
        return _flip(pixels, random.uniform() < self.p)


class AlternatingFlip(Augmentation):
    """Flip each image horizontally in every other epoch: a random half in even epochs, the other half in odd ones.

    Every two consecutive epochs show each image both ways, which random flips leave to chance.

    Source: K. Jordan 2024, arXiv:2404.00498, section 3.6.
    """

    def __call__(self, pixels: Tensor, random: SampleRandom, mean: Sequence[float]) -> Tensor:
        """Return the images, half of them flipped."""
        return _flip(pixels, random.fixed_coins() ^ bool(random.epoch % 2))


class Cutout(Augmentation):
    """Cover a random square inside each image with the mean color of the dataset.

    Args:
        size: Side length of the square in pixels.
        p: Probability that an image gets a square.

    Source: DeVries & Taylor 2017, arXiv:1708.04552.
    """

    def __init__(self, size: int = 8, p: float = 1.0) -> None:
        if size < 1:
            raise InputError(f"Cutout: size must be at least 1, got {size}; remove Cutout to switch it off")
        self.size, self.p = size, _check_probability("Cutout", p)

    def __call__(self, pixels: Tensor, random: SampleRandom, mean: Sequence[float]) -> Tensor:
        """Return the images, a random subset of them with a covered square."""
        height, width = pixels.shape[-2:]
        if self.size > min(height, width):
            raise InputError(
                f"Cutout: size must be at most that of the images ({height}x{width}), got {self.size}; reduce it"
            )
        chosen = random.uniform() < self.p
        top = random.integers(0, height - self.size + 1)
        left = random.integers(0, width - self.size + 1)
        rows = self._covered(height, top) & chosen.view(-1, 1)
        covered = rows.view(-1, 1, height, 1) & self._covered(width, left).view(-1, 1, 1, width)  # (N, 1, H, W)
        return torch.where(covered, _to_color(tuple(mean), pixels.device), pixels)

    def _covered(self, length: int, start: Tensor) -> Tensor:
        """Return bool (N, length), True for ``size`` pixels from each start."""
        distance = torch.arange(length, device=start.device) - start.view(-1, 1)
        return (distance >= 0) & (distance < self.size)


class ProgressiveResizing(Augmentation):
    """Train the first epochs on smaller images, which is cheaper.

    Args:
        sizes: Shorter side of the images in each epoch, from the first; epochs after the last entry use the full size.

    Source: J. Howard, fast.ai's DAWNBench entry (2018), https://www.fast.ai/posts/2018-04-30-dawnbench-fastai.html
    """

    def __init__(self, sizes: list[int]) -> None:
        if not sizes or min(sizes) < 8:
            raise InputError(
                f"ProgressiveResizing: sizes must be a non-empty list of sizes of at least 8 pixels, got {sizes}"
            )
        self.sizes = sizes

    def __call__(self, pixels: Tensor, random: SampleRandom, mean: Sequence[float]) -> Tensor:
        """Return resized images, uint8 (N, C, h, w); the input itself in the epochs after ``sizes``."""
        height, width = pixels.shape[-2:]
        if random.epoch >= len(self.sizes) or self.sizes[random.epoch] == min(height, width):
            return pixels
        size = self.output_sizes((height, width))[random.epoch]
        if pixels.device.type == "cpu":  # the CPU has a uint8 kernel, 6 times faster with channels last
            channels_last = pixels.contiguous(memory_format=torch.channels_last)
            return F.interpolate(channels_last, size, mode="bilinear", antialias=True)
        resized = F.interpolate(pixels.float(), size, mode="bilinear", antialias=True)
        return resized.round().clamp(0, 255).to(torch.uint8)

    def output_sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Return the (height, width) of each epoch in ``sizes``, and that of the epochs after.

        Raises:
            InputError: If one is larger than the images.
        """
        shorter = min(size)
        if max(self.sizes) > shorter:
            raise InputError(
                f"ProgressiveResizing: sizes must be at most that of the images ({size[0]}x{size[1]}), got"
                f" {max(self.sizes)}; use smaller ones"
            )
        return [*((round(size[0] * side / shorter), round(size[1] * side / shorter)) for side in self.sizes), size]


@cache  # a copy to an accelerator would synchronize at every step
def _to_color(mean: tuple[float, ...], device: torch.device) -> Tensor:
    """Return the mean color of the dataset, uint8 (C, 1, 1)."""
    return torch.tensor([round(255 * channel) for channel in mean], dtype=torch.uint8, device=device).view(-1, 1, 1)


def _flip(pixels: Tensor, chosen: Tensor) -> Tensor:
    """Flip the chosen images, bool (N,), horizontally."""
    return torch.where(chosen.view(-1, 1, 1, 1), pixels.flip(-1), pixels)


def _check_probability(name: str, p: float) -> float:
    if not 0 <= p <= 1:
        raise InputError(f"{name}: p must be between 0 and 1, got {p}")
    return p
