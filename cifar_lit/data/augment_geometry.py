"""Augmentations that change the position, size or orientation of what an image shows."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cifar_lit.data.augment import Augmentation
from cifar_lit.errors import InputError
from cifar_lit.randomness import SampleRandom


class RandomResizedCrop(Augmentation):
    """Crop a random part of each image, and resize it.

    With ``data.decode_size`` larger than ``data.image_size``, the part is taken from a larger image.

    Args:
        size: Side of the result, or ``[height, width]``: ``data.image_size``; by default that of the input.
        scale: Smallest and largest area of the part, as a fraction of the image.
        ratio: Smallest and largest width of the part, divided by its height. Parts that would be wider or higher than
            the image are cut to it; torchvision draws again.

    Source: Szegedy et al. 2015, arXiv:1409.4842, section 6; resizes as torchvision's does, with antialiasing.
    """

    def __init__(
        self,
        size: int | tuple[int, int] | None = None,
        scale: tuple[float, float] = (0.35, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        self.size = (size, size) if isinstance(size, int) else size
        if self.size is not None and min(self.size) < 1:
            raise InputError(f"RandomResizedCrop: size must be at least 1, got {size}")
        if not 0 < scale[0] <= scale[1] <= 1:
            raise InputError(f"RandomResizedCrop: scale must be increasing, above 0 and at most 1, got {scale}")
        if not 0 < ratio[0] <= ratio[1]:
            raise InputError(f"RandomResizedCrop: ratio must be increasing and above 0, got {ratio}")
        self.scale, self.ratio = scale, ratio

    def __call__(self, pixels: Tensor, random: SampleRandom, mean: Sequence[float]) -> Tensor:
        """Return the resized parts, uint8 (N, C, h, w)."""
        height, width = pixels.shape[-2:]
        area = height * width * (self.scale[0] + (self.scale[1] - self.scale[0]) * random.uniform())
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = (low + (high - low) * random.uniform()).exp()
        heights = (area / ratio).sqrt().round().clamp(1, height)
        widths = (area * ratio).sqrt().round().clamp(1, width)
        tops = (random.uniform() * (height - heights + 1)).floor()
        lefts = (random.uniform() * (width - widths + 1)).floor()
        return resized_crops(pixels, torch.stack([tops, lefts, heights, widths], 1), self.size or (height, width))

    def output_sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Return the size of the result."""
        return [self.size or size]


class RandomRotation(Augmentation):
    """Rotate each image about its center by a random angle; the corners get the mean color of the dataset.

    Args:
        degrees: Largest angle, in both directions.
    """

    def __init__(self, degrees: float = 15.0) -> None:
        if not 0 < degrees <= 180:
            raise InputError(f"RandomRotation: degrees must be above 0 and at most 180, got {degrees}")
        self.degrees = degrees

    def __call__(self, pixels: Tensor, random: SampleRandom, mean: Sequence[float]) -> Tensor:
        """Return the rotated images."""
        return rotate(pixels, (2 * random.uniform() - 1) * self.degrees, mean)


def resized_crops(pixels: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Crop a box of each image and resize it, bilinear with antialiasing.

    Args:
        pixels: uint8 (N, C, H, W).
        boxes: float (N, 4), whole numbers: top, left, height and width of each box, inside the image.
        size: Height and width of the result.

    Returns:
        uint8 (N, C, *size).
    """
    if pixels.device.type == "cpu":  # which has a fast uint8 kernel, for one box at a time
        crops = [
            F.interpolate(
                image[None, :, top : top + height, left : left + width].contiguous(memory_format=torch.channels_last),
                size,
                mode="bilinear",
                antialias=True,
            )
            for image, (top, left, height, width) in zip(pixels, boxes.int().tolist(), strict=True)
        ]
        return torch.cat(crops).contiguous()
    rows = _resize_weights(boxes[:, 0], boxes[:, 2], pixels.shape[-2], size[0])
    columns = _resize_weights(boxes[:, 1], boxes[:, 3], pixels.shape[-1], size[1])
    resized = rows[:, None] @ pixels.float() @ columns[:, None].transpose(-1, -2)
    return resized.round().clamp(0, 255).to(torch.uint8)


def _resize_weights(starts: Tensor, lengths: Tensor, source: int, target: int) -> Tensor:
    """Return the weight of each of ``source`` pixels in each of ``target`` pixels, float (N, target, source)."""
    scale = (lengths / target).view(-1, 1, 1)
    centers = starts.view(-1, 1, 1) + (torch.arange(target, device=starts.device).view(-1, 1) + 0.5) * scale
    positions = torch.arange(source, device=starts.device) + 0.5
    weights = (1 - (positions - centers).abs() / scale.clamp(min=1)).clamp(min=0)
    start, end = starts.view(-1, 1, 1), (starts + lengths).view(-1, 1, 1)
    weights = weights * ((positions > start) & (positions < end))
    return weights / weights.sum(-1, keepdim=True)


def rotate(pixels: Tensor, degrees: Tensor, mean: Sequence[float]) -> Tensor:
    """Rotate each image counterclockwise about its center; see ``affine``."""
    angle = degrees.deg2rad()
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return affine(pixels, torch.stack([cosine, -sine, zero, sine, cosine, zero], 1).view(-1, 2, 3), mean)


def affine(pixels: Tensor, matrices: Tensor, mean: Sequence[float]) -> Tensor:
    """Move the pixels of each image, bilinear, with the mean color outside.

    Args:
        pixels: uint8 (N, C, H, W).
        matrices: float (N, 2, 3), from the position (x, y, 1) of a pixel of the result, relative to the center, to
            its position (x, y) in the image.
        mean: Mean of each channel, in [0, 1].
    """
    height, width = pixels.shape[-2:]
    size = pixels.new_tensor([width, height], dtype=torch.float32)
    to_pixels = torch.cat([size / 2, size.new_ones(1)])  # from coordinates in [-1, 1]
    theta = matrices * to_pixels / (size[:, None] / 2)
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    fill = 255 * size.new_tensor(mean).view(-1, 1, 1)
    moved = F.grid_sample(pixels - fill, grid, mode="bilinear", align_corners=False) + fill
    return moved.round().clamp(0, 255).to(torch.uint8)
