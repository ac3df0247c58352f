"""Augmentations of a whole batch at once, on the device that it is on.

Each is many times faster than augmenting sample by sample (`python -m benchmarks --only '[augmentation]'`), and draws
its random numbers per sample from (seed, epoch, index), so that neither the batch size nor the number of workers or
processes changes a picture.
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
    """Changes the pixels of a batch at random."""

    @abstractmethod
    def __call__(self, pixels: Tensor, random: SampleRandom, mean: Sequence[float]) -> Tensor:
        """Augmented pixels, uint8, of the same shape but where an augmentation says otherwise.

        Args:
            pixels: uint8 (N, C, H, W), 0 to 255; left as they are.
            random: Random numbers, one a sample at each draw.
            mean: The data's mean of each channel, in [0, 1].
        """

    def sizes_of(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Heights and widths that images of this size are given; by default, none but their own."""
        return [size]


class RandomCrop(Augmentation):
    """Pads each image, then cuts a window of the old size at a random place: a random translation.

    Args:
        padding: Pixels added at each side; the image moves by up to as many in each direction.
        mode: What is added: the image mirrored at its edge, the edge repeated, black, or the data's mean colour.
    """

    def __init__(self, padding: int = 4, mode: Literal["reflect", "edge", "black", "mean"] = "reflect") -> None:
        if padding < 1:
            raise InputError(
                f"RandomCrop: padding must be at least 1, got {padding}; remove RandomCrop to switch it off"
            )
        self.padding = padding
        self.mode = mode

    def __call__(self, pixels: Tensor, random: SampleRandom, mean: Sequence[float]) -> Tensor:
        """Images moved by up to ``padding`` pixels."""
        batch, channels, height, width = pixels.shape
        places = 2 * self.padding + 1
        down, right = random.integers(0, places), random.integers(0, places)
        padded = self._padded(pixels, mean).contiguous()
        # Every run of ``width`` pixels in memory is a row of a view, of which the windows' rows are selected: a copy of
        # runs, 4 times faster on a CPU than of single pixels, which indexing makes
        runs = padded.as_strided((padded.numel() - width + 1, width), (1, 1))
        wide, high = padded.shape[-1], padded.shape[-2]
        plane = torch.arange(batch * channels, device=pixels.device).view(batch, channels, 1) * (wide * high)
        row = torch.arange(height, device=pixels.device) + down.view(-1, 1, 1)  # (N, 1, H)
        corner = plane + right.view(-1, 1, 1)  # (N, C, 1)
        starts = corner + row * wide  # (N, C, H)
        return runs.index_select(0, starts.flatten()).view(pixels.shape)

    def _padded(self, pixels: Tensor, mean: Sequence[float]) -> Tensor:
        if self.mode == "reflect" and self.padding >= min(pixels.shape[-2:]):
            raise InputError(
                f"RandomCrop: padding {self.padding} mirrors more than there is of images of"
                f" {pixels.shape[-2]}x{pixels.shape[-1]}; make it smaller, or mode edge"
            )
        sides = [self.padding] * 4
        if self.mode == "mean":
            height, width = pixels.shape[-2:]
            shape = (*pixels.shape[:2], height + 2 * self.padding, width + 2 * self.padding)
            padded = _colour(mean, pixels).expand(shape).clone(memory_format=torch.contiguous_format)
            padded[..., self.padding : -self.padding, self.padding : -self.padding] = pixels
            return padded
        return F.pad(pixels, sides, mode={"reflect": "reflect", "edge": "replicate", "black": "constant"}[self.mode])


class HorizontalFlip(Augmentation):
    """Mirrors each image left to right with a probability.

    Args:
        p: The probability.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = _probability("HorizontalFlip", p)

    def __call__(self, pixels: Tensor, random: SampleRandom, mean: Sequence[float]) -> Tensor:
        """Images of which some are mirrored."""
        return _mirrored(pixels, random.uniform() < self.p)


class AlternatingFlip(Augmentation):
    """Mirrors each image left to right in every second epoch: a random half in the even ones, the others in the odd.

    So every two epochs show each image both ways, which random flips leave to chance.

    Source: K. Jordan 2024, arXiv:2404.00498, section 3.6.
    """

    def __call__(self, pixels: Tensor, random: SampleRandom, mean: Sequence[float]) -> Tensor:
        """Images of which some are mirrored."""
        return _mirrored(pixels, random.coins() ^ bool(random.epoch % 2))


class Cutout(Augmentation):
    """Covers a square of each image with the data's mean colour.

    The square lies wholly inside the image, at a random place.

    Args:
        size: Side of the square, in pixels.
        p: Probability that an image gets a square.

    Source: DeVries & Taylor 2017, arXiv:1708.04552.
    """

    def __init__(self, size: int = 8, p: float = 1.0) -> None:
        if size < 1:
            raise InputError(f"Cutout: size must be at least 1, got {size}; remove Cutout to switch it off")
        self.size, self.p = size, _probability("Cutout", p)

    def __call__(self, pixels: Tensor, random: SampleRandom, mean: Sequence[float]) -> Tensor:
        """Images of which some have a covered square."""
        height, width = pixels.shape[-2:]
        if self.size > min(height, width):
            raise InputError(f"Cutout: size {self.size} is larger than the images ({height}x{width}); make it smaller")
        chosen = random.uniform() < self.p
        top = random.integers(0, height - self.size + 1)
        left = random.integers(0, width - self.size + 1)
        rows = _bits(_between(height, top, self.size) & chosen.view(-1, 1))  # (N, H)
        columns = _bits(_between(width, left, self.size))  # (N, W)
        covered = (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)  # (N, 1, H, W)
        return _select(covered, _colour(mean, pixels), pixels)


class ProgressiveResizing(Augmentation):
    """Trains the first epochs on smaller images, which costs less, when what is learnt is coarse anyway.

    Args:
        sizes: The shorter side of the images in each epoch, from the first; after the last of the list, all have their
            full size.

    Source: J. Howard, fast.ai's DAWNBench entry (2018), https://www.fast.ai/posts/2018-04-30-dawnbench-fastai.html
    """

    def __init__(self, sizes: list[int]) -> None:
        if not sizes or min(sizes) < 8:
            raise InputError(f"ProgressiveResizing: sizes must be a list of sides of 8 and more pixels, got {sizes}")
        self.sizes = sizes

    def __call__(self, pixels: Tensor, random: SampleRandom, mean: Sequence[float]) -> Tensor:
        """The images, uint8 (N, C, h, w), smaller in the epochs of the list; after them, as they are."""
        if random.epoch >= len(self.sizes) or self.sizes[random.epoch] == min(pixels.shape[-2:]):
            return pixels
        height, width = pixels.shape[-2:]
        size = self.sizes_of((height, width))[random.epoch]
        if pixels.device.type == "cpu":  # which has a kernel for bytes, 6 times faster, where the channels come last
            channels_last = pixels.contiguous(memory_format=torch.channels_last)
            return F.interpolate(channels_last, size, mode="bilinear", antialias=True)
        small = F.interpolate(pixels.float(), size, mode="bilinear", antialias=True)
        return small.round().clamp(0, 255).to(torch.uint8)

    def sizes_of(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Heights and widths in the epochs of the list.

        Raises:
            InputError: if one is above the images' own.
        """
        shorter = min(size)
        if max(self.sizes) > shorter:
            raise InputError(
                f"ProgressiveResizing: size {max(self.sizes)} is above that of the images, {size[0]}x{size[1]}"
            )
        return [(round(size[0] * side / shorter), round(size[1] * side / shorter)) for side in self.sizes]


def _colour(mean: Sequence[float], pixels: Tensor) -> Tensor:
    """uint8 (C, 1, 1), the data's mean colour, beside pixels."""
    return _colour_on(tuple(mean), pixels.device)


@cache
def _colour_on(mean: tuple[float, ...], device: torch.device) -> Tensor:
    """Made once, since a copy to an accelerator would wait for it in every step."""
    return torch.tensor([round(255 * channel) for channel in mean], dtype=torch.uint8, device=device).view(-1, 1, 1)


def _mirrored(pixels: Tensor, chosen: Tensor) -> Tensor:
    """Images (N, C, H, W), those chosen (bool (N,)) mirrored left to right."""
    return _select(_bits(chosen).view(-1, 1, 1, 1), pixels.flip(-1), pixels)


def _bits(chosen: Tensor) -> Tensor:
    """uint8, of the shape of chosen (bool): every bit set where it is True, none where it is False."""
    return chosen.to(torch.uint8).neg_()


def _select(bits: Tensor, new: Tensor, pixels: Tensor) -> Tensor:
    """Bytes of new where all bits are set, those of pixels where none is.

    As ``torch.where``, which does not fill a CPU's vectors with bytes: this does, and two of its three passes make no
    tensor (`new ^ pixels ^ pixels` is `new`).

    Args:
        bits: uint8, 255 or 0; of a shape that broadcasts to that of pixels, as that of new.
        new: uint8.
        pixels: uint8 (N, C, H, W).
    """
    selected = new ^ pixels
    selected &= bits
    selected ^= pixels
    return selected


def _between(length: int, start: Tensor, size: int) -> Tensor:
    """bool (N, length), True from each start on, for ``size`` places."""
    places = torch.arange(length, device=start.device)
    offset = places - start.unsqueeze(1)
    return (offset >= 0) & (offset < size)


def _probability(name: str, p: float) -> float:
    if not 0 <= p <= 1:
        raise InputError(f"{name}: p must be between 0 and 1, got {p}")
    return p
