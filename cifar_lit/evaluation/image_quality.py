"""Brightness, contrast and sharpness of images, and the faults that follow from them."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

QUALITY_SIDE = 64  # pixels of the longer side on which quality is measured, as in CleanVision
_BATCH = 256


@dataclass(frozen=True)
class QualityThresholds:
    """Limits beyond which an image is reported.

    Args:
        min_side: An image is tiny if its shorter side has fewer pixels.
        max_megapixels: An image is huge if it has more megapixels.
        max_aspect_ratio: An image has an odd aspect ratio if its longer side exceeds its shorter side by more.
        min_brightness: An image is dark if the 99th percentile of its brightness, from 0 to 1, is below this.
        min_contrast: An image is nearly uniform if the standard deviation of its gray levels, 0 to 255, is below this.
        min_sharpness: An image is blurry if the standard deviation of its Laplacian, in a size of at most 64x64,
            relative to that of its gray levels, is below this.
    """

    min_side: int = 32  # the size of a CIFAR image
    max_megapixels: float = 50.0  # four times a photo of 12 megapixels
    max_aspect_ratio: float = 3.0  # CleanVision: 1 / 0.35
    min_brightness: float = 0.32  # CleanVision
    min_contrast: float = 4.0  # about the noise of a camera
    # Of 3,000 test images of CIFAR-10, none are below 0.76; after a Gaussian blur with sigma 2, 97% are below 0.6.
    # CleanVision's limit, which is not relative, calls 2% of CIFAR-10 blurry: small objects before a plain sky.
    min_sharpness: float = 0.6


class Quality(NamedTuple):
    """Brightness, contrast and sharpness of N images, float (N,); see QualityThresholds."""

    brightness: Tensor
    contrast: Tensor
    sharpness: Tensor


def image_quality(pixels: Tensor) -> Quality:
    """Return the quality of images uint8 (N, 3, H, W).

    Source: brightness as in CleanVision; sharpness after the variance of the Laplacian, Pech-Pacheco et al. 2000,
    doi:10.1109/ICPR.2000.903548, divided by the contrast, so that it does not depend on it.

    >>> [value.tolist() for value in image_quality(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))]
    [[0.0], [0.0], [0.0]]
    """
    batches = [_quality(batch.float()) for batch in pixels.split(_BATCH)]
    return Quality(*(torch.cat(values) for values in zip(*batches, strict=True)))


def _quality(pixels: Tensor) -> Quality:
    red, green, blue = pixels.unbind(1)
    brightness = (0.241 * red**2 + 0.691 * green**2 + 0.068 * blue**2).sqrt() / 255
    gray = (0.299 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)  # (N, 1, H, W)
    blurred = F.avg_pool2d(F.pad(gray, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    edges = 9 * (gray - blurred)  # the Laplacian with diagonals: 8 times a pixel minus its neighbors
    contrast = gray.flatten(1).std(1, correction=0)
    sharpness = edges.flatten(1).std(1, correction=0) / contrast.clamp(min=1e-6)
    return Quality(brightness.flatten(1).kthvalue(math.ceil(0.99 * gray[0].numel()), dim=1).values, contrast, sharpness)


def find_faults(
    size: tuple[int, int], quality: tuple[float, float, float], limits: QualityThresholds
) -> list[tuple[str, str]]:
    """Return the faults of an image, each with its measurement.

    Args:
        size: Width and height of the file's image.
        quality: Brightness, contrast and sharpness, see Quality.
        limits: The limits.

    >>> find_faults((20, 90), (0.9, 50.0, 0.4), QualityThresholds())
    [('tiny', '20x90'), ('odd aspect ratio', '20x90'), ('blurry', 'sharpness 0.40')]
    """
    (width, height), (brightness, contrast, sharpness) = size, quality
    is_uniform = contrast < limits.min_contrast  # then, brightness and sharpness say nothing more
    faults = {
        ("tiny", f"{width}x{height}"): min(size) < limits.min_side,
        ("huge", f"{width}x{height}"): width * height > limits.max_megapixels * 1e6,
        ("odd aspect ratio", f"{width}x{height}"): max(size) > limits.max_aspect_ratio * min(size),
        ("near-uniform", f"contrast {contrast:.1f}"): is_uniform,
        ("dark", f"brightness {brightness:.2f}"): brightness < limits.min_brightness and not is_uniform,
        ("blurry", f"sharpness {sharpness:.2f}"): sharpness < limits.min_sharpness and not is_uniform,
    }
    return [fault for fault, is_faulty in faults.items() if is_faulty]
