"""Augmentations that change colors: jitter, and TrivialAugment and RandAugment, which change positions too."""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from cifar_lit.data.augment import Augmentation
from cifar_lit.data.augment_geometry import affine, rotate
from cifar_lit.errors import InputError
from cifar_lit.randomness import SampleRandom

_LEVELS = 31  # of the strength of an operation, in both papers' code


class ColorJitter(Augmentation):
    """Change brightness, contrast, saturation and hue of each image at random, in this order.

    Args:
        brightness, contrast, saturation: Largest change, as a fraction; 0 for none. Each factor is uniform over
            [max(0, 1 - value), 1 + value], as in torchvision.
        hue: Largest change, as a fraction of the color circle, at most 0.5; 0 for none.
    """

    def __init__(
        self, brightness: float = 0.2, contrast: float = 0.2, saturation: float = 0.2, hue: float = 0.0
    ) -> None:
        if not 0 <= hue <= 0.5:
            raise InputError(f"ColorJitter: hue must be between 0 and 0.5, got {hue}")
        self.hue, self.changes = hue, {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        for name, value in self.changes.items():
            if value < 0:
                raise InputError(f"ColorJitter: {name} must be at least 0, got {value}")

    def __call__(self, pixels: Tensor, random: SampleRandom, mean: Sequence[float]) -> Tensor:
        """Return images of other colors."""
        for name, value in self.changes.items():
            low, high = max(0.0, 1 - value), 1 + value
            pixels = _adjust(name, pixels, low + (high - low) * random.uniform())
        return _shift_hue(pixels, self.hue * (2 * random.uniform() - 1)) if self.hue else pixels


class TrivialAugment(Augmentation):
    """Apply one random operation to each image, with a random strength.

    Source: Müller & Hutter 2021, arXiv:2103.10158, the wide set of operations; torchvision's ``TrivialAugmentWide``,
        except that shears leave the center in place, and that the mean color of the dataset appears outside.
    """

    def __call__(self, pixels: Tensor, random: SampleRandom, mean: Sequence[float]) -> Tensor:
        """Return the changed images."""
        strength = random.integers(0, _LEVELS) / (_LEVELS - 1)
        return _apply(pixels, random, strength, _Limits(0.99, (32.0, 32.0), 135.0, 0.99, 6), mean)


class RandAugment(Augmentation):
    """Apply several random operations to each image, all of the same strength.

    Args:
        num_ops: Number of operations.
        magnitude: Strength, from 0 to 30.

    Source: Cubuk et al. 2019, arXiv:1909.13719; torchvision's ``RandAugment``, with the exceptions of TrivialAugment.
    """

    def __init__(self, num_ops: int = 2, magnitude: int = 9) -> None:
        if num_ops < 1:
            raise InputError(f"RandAugment: num_ops must be at least 1, got {num_ops}")
        if not 0 <= magnitude < _LEVELS:
            raise InputError(f"RandAugment: magnitude must be between 0 and {_LEVELS - 1}, got {magnitude}")
        self.num_ops, self.magnitude = num_ops, magnitude

    def __call__(self, pixels: Tensor, random: SampleRandom, mean: Sequence[float]) -> Tensor:
        """Return the changed images."""
        height, width = pixels.shape[-2:]
        limits = _Limits(0.3, (150 / 331 * width, 150 / 331 * height), 30.0, 0.9, 4)
        strength = torch.full((len(pixels),), self.magnitude / (_LEVELS - 1), device=pixels.device)
        for _ in range(self.num_ops):
            pixels = _apply(pixels, random, strength, limits, mean)
        return pixels


class _Limits(NamedTuple):
    """The strongest operations: shear, shift in pixels (x and y), degrees, change of a factor, and bits removed."""

    shear: float
    shift: tuple[float, float]
    degrees: float
    factor: float
    bits: int


def _apply(pixels: Tensor, random: SampleRandom, strength: Tensor, limits: _Limits, mean: Sequence[float]) -> Tensor:
    """Apply one random operation to each image, with a strength float (N,) in [0, 1] and a random sign."""
    signed = strength * (2 * random.integers(0, 2) - 1)
    operations: list[Callable[[Tensor, Tensor, Tensor], Tensor]] = [
        lambda images, _, __: images,
        lambda images, s, _: affine(images, _matrices(s, x_of_y=limits.shear), mean),
        lambda images, s, _: affine(images, _matrices(s, y_of_x=limits.shear), mean),
        lambda images, s, _: affine(images, _matrices(s, x=limits.shift[0]), mean),
        lambda images, s, _: affine(images, _matrices(s, y=limits.shift[1]), mean),
        lambda images, s, _: rotate(images, s * limits.degrees, mean),
        *(
            lambda images, s, _, name=name: _adjust(name, images, 1 + s * limits.factor)
            for name in ("brightness", "saturation", "contrast", "sharpness")
        ),
        lambda images, _, t: images & (256 - 2 ** (t * limits.bits).round()).to(torch.uint8).view(-1, 1, 1, 1),
        lambda images, _, t: torch.where(images >= 255 * (1 - t).view(-1, 1, 1, 1), 255 - images, images),
        lambda images, _, __: _functional().autocontrast(images),
        lambda images, _, __: _functional().equalize(images),
    ]
    chosen, pixels = random.integers(0, len(operations)), pixels.clone()
    for number, operation in enumerate(operations):
        rows = (chosen == number).nonzero()[:, 0]
        if len(rows):
            pixels[rows] = operation(pixels[rows], signed[rows], strength[rows])
    return pixels


def _matrices(amounts: Tensor, x_of_y: float = 0, y_of_x: float = 0, x: float = 0, y: float = 0) -> Tensor:
    """Return matrices for ``affine``, float (N, 2, 3), that shear or shift by a multiple (N,) of these amounts."""
    identity = amounts.new_tensor([[1.0, 0, 0], [0, 1, 0]])
    return identity + amounts.view(-1, 1, 1) * amounts.new_tensor([[0, x_of_y, x], [y_of_x, 0, y]])


def _adjust(name: str, pixels: Tensor, factors: Tensor) -> Tensor:
    """Multiply the difference of each image from its extreme (black, gray, one color, blurred) by a factor (N,)."""
    extreme = getattr(_functional(), f"adjust_{name}")(pixels, 0.0)
    factors = factors.view(-1, 1, 1, 1)
    return (factors * pixels + (1 - factors) * extreme).clamp(0, 255).to(torch.uint8)


def _shift_hue(pixels: Tensor, shifts: Tensor) -> Tensor:
    """Rotate the HSV hue of each image, uint8 (N, 3, H, W), by fractions (N,) of the color circle."""
    red, green, blue = pixels.float().unbind(1)
    value, darkest = pixels.amax(1).float(), pixels.amin(1).float()
    chroma = value - darkest
    above_red = torch.where(value == green, 2 + (blue - red) / chroma, 4 + (red - green) / chroma)
    sixths = torch.where(value == red, (green - blue) / chroma, above_red).nan_to_num()  # gray has no hue
    sixths = sixths + 6 * shifts.view(-1, 1, 1)
    steps = ((sixths + start) % 6 for start in (5, 3, 1))
    channels = [value - chroma * torch.minimum(step, 4 - step).clamp(0, 1) for step in steps]
    return torch.stack(channels, 1).round().to(torch.uint8)


def _functional() -> ModuleType:
    """Import torchvision's transforms on first use, which takes seconds."""
    from torchvision.transforms.v2 import functional

    return functional
