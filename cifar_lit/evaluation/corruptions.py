"""Common corruptions of small images, at five severities.

The kinds and severities are those of CIFAR-10-C, which is made for images of 32 pixels; lengths scale with the image.
Snow, frost, glass blur, elastic and spatter are omitted: they need extra images or are slow. Other libraries target
images of 224 pixels, or are unmaintained.

Source: Hendrycks & Dietterich 2019, arXiv:1903.12261, section 3 and appendix B.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

SEVERITIES = 5
_Corruption = Callable[[np.ndarray, int, np.random.Generator, float], np.ndarray]


def corrupt(pixels: np.ndarray, kind: str, severity: int, seed: int = 0) -> np.ndarray:
    """Return corrupted images, uint8 (N, H, W, 3).

    Args:
        pixels: uint8 (N, H, W, 3).
        kind: One of ``KINDS``.
        severity: From 1 to 5.
        seed: Seed of the random corruptions.
    """
    random = np.random.default_rng([seed, *kind.encode(), severity])
    scale = min(pixels.shape[1:3]) / 32
    images = _CORRUPTIONS[kind](pixels.astype(np.float32) / 255, severity - 1, random, scale)
    return (images.clip(0, 1) * 255).round().astype(np.uint8)


# Each takes images float32 (N, H, W, 3) in [0, 1], the severity from 0 to 4, a random generator, and the image's side
# in units of 32 pixels


def _gaussian_noise(images: np.ndarray, severity: int, random: np.random.Generator, scale: float) -> np.ndarray:
    return images + random.normal(0, (0.04, 0.06, 0.08, 0.09, 0.10)[severity], images.shape)


def _shot_noise(images: np.ndarray, severity: int, random: np.random.Generator, scale: float) -> np.ndarray:
    photons = (500, 250, 100, 75, 50)[severity]
    return random.poisson(images * photons) / photons


def _impulse_noise(images: np.ndarray, severity: int, random: np.random.Generator, scale: float) -> np.ndarray:
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity]
    draws = random.random(images.shape)
    return np.where(draws < share / 2, 0, np.where(draws < share, 1, images))


def _speckle_noise(images: np.ndarray, severity: int, random: np.random.Generator, scale: float) -> np.ndarray:
    return images * (1 + random.normal(0, (0.06, 0.10, 0.12, 0.16, 0.20)[severity], images.shape))


def _gaussian_blur(images: np.ndarray, severity: int, random: np.random.Generator, scale: float) -> np.ndarray:
    width = scale * (0.4, 0.6, 0.7, 0.8, 1.0)[severity]
    return ndimage.gaussian_filter(images, (0, width, width, 0), mode="nearest")


def _defocus_blur(images: np.ndarray, severity: int, random: np.random.Generator, scale: float) -> np.ndarray:
    radius, alias = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))[severity]
    reach = int(np.ceil(max(scale * radius, 1) + 4 * scale * alias))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (x**2 + y**2 <= (scale * radius) ** 2).astype(np.float32)
    kernel = ndimage.gaussian_filter(disk / disk.sum(), scale * alias)
    return ndimage.convolve(images, kernel[None, :, :, None], mode="nearest")


def _motion_blur(images: np.ndarray, severity: int, random: np.random.Generator, scale: float) -> np.ndarray:
    radius, width = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))[severity]
    reach = round(scale * radius)
    weights = np.exp(-(np.arange(reach + 1) ** 2) / (2 * (scale * width) ** 2))
    blurred = np.zeros_like(images)
    rows, columns = images.shape[1:3]
    for image, total, angle in zip(images, blurred, random.uniform(-np.pi / 4, np.pi / 4, len(images)), strict=True):
        padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
        for step, weight in enumerate(weights / weights.sum()):
            y, x = reach - round(step * np.sin(angle)), reach - round(step * np.cos(angle))
            total += weight * padded[y : y + rows, x : x + columns]
    return blurred


def _zoom_blur(images: np.ndarray, severity: int, random: np.random.Generator, scale: float) -> np.ndarray:
    factors = np.arange(1, (1.06, 1.11, 1.16, 1.21, 1.26)[severity], 0.01)
    total = images.copy()
    for factor in factors:
        total += _zoomed(images, float(factor))
    return total / (len(factors) + 1)


def _zoomed(images: np.ndarray, factor: float) -> np.ndarray:
    """Return the center of the images, enlarged to their size."""
    height, width = images.shape[1:3]
    y, x = ((np.arange(side) - (side - 1) / 2) / factor + (side - 1) / 2 for side in (height, width))
    low_y, low_x = np.floor(y).astype(int), np.floor(x).astype(int)
    high_y, high_x = np.minimum(low_y + 1, height - 1), np.minimum(low_x + 1, width - 1)
    weight_y = (y - low_y).astype(np.float32)[None, :, None, None]
    weight_x = (x - low_x).astype(np.float32)[None, None, :, None]
    rows = images[:, low_y] * (1 - weight_y) + images[:, high_y] * weight_y
    zoomed: np.ndarray = rows[:, :, low_x] * (1 - weight_x) + rows[:, :, high_x] * weight_x
    return zoomed


def _fog(images: np.ndarray, severity: int, random: np.random.Generator, scale: float) -> np.ndarray:
    amount, decay = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))[severity]
    height, width = images.shape[1:3]
    clouds = np.stack([_plasma(max(height, width), decay, random)[:height, :width] for _ in range(len(images))])
    brightest = images.max((1, 2, 3), keepdims=True)
    return (images + amount * clouds[..., None]) * brightest / (brightest + amount)


def _plasma(side: int, decay: float, random: np.random.Generator) -> np.ndarray:
    """Return clouds float (S, S) in [0, 1], S the next power of two, by the diamond-square algorithm."""
    size = 1 << (side - 1).bit_length()
    clouds, step, wobble = np.zeros((size, size)), size, 1.0

    def midpoint(total: np.ndarray) -> np.ndarray:
        return total / 4 + wobble * random.uniform(-wobble, wobble, total.shape)

    while step > 1:
        half = step // 2
        corners = clouds[::step, ::step]
        down = corners + np.roll(corners, -1, 0)
        clouds[half::step, half::step] = midpoint(down + np.roll(down, -1, 1))
        middles = clouds[half::step, half::step]
        clouds[::step, half::step] = midpoint(middles + np.roll(middles, 1, 0) + corners + np.roll(corners, -1, 1))
        clouds[half::step, ::step] = midpoint(middles + np.roll(middles, 1, 1) + corners + np.roll(corners, -1, 0))
        step, wobble = half, wobble / decay
    clouds -= clouds.min()
    return clouds / clouds.max()


def _brightness(images: np.ndarray, severity: int, random: np.random.Generator, scale: float) -> np.ndarray:
    # The value of HSV is the largest channel: raising it scales all three
    value = images.max(-1, keepdims=True)
    raised = (value + (0.05, 0.1, 0.15, 0.2, 0.3)[severity]).clip(0, 1)
    return np.where(value > 0, images * raised / np.maximum(value, 1e-6), raised)


def _saturation(images: np.ndarray, severity: int, random: np.random.Generator, scale: float) -> np.ndarray:
    factor, more = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))[severity]
    value = images.max(-1, keepdims=True)
    saturation = 1 - images.min(-1, keepdims=True) / np.maximum(value, 1e-6)
    wanted = (saturation * factor + more).clip(0, 1)
    reddened = np.concatenate([value, value * (1 - wanted), value * (1 - wanted)], -1)  # gray has hue 0: red
    return np.where(saturation > 0, value - (value - images) * wanted / np.maximum(saturation, 1e-6), reddened)


def _contrast(images: np.ndarray, severity: int, random: np.random.Generator, scale: float) -> np.ndarray:
    mean = images.mean((1, 2), keepdims=True)
    return (images - mean) * (0.75, 0.5, 0.4, 0.3, 0.15)[severity] + mean


def _jpeg(images: np.ndarray, severity: int, random: np.random.Generator, scale: float) -> np.ndarray:
    result = []
    for image in (images * 255).round().astype(np.uint8):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=(80, 65, 58, 50, 40)[severity])
        result.append(np.asarray(Image.open(file)))
    return np.stack(result) / 255


def _pixelation(images: np.ndarray, severity: int, random: np.random.Generator, scale: float) -> np.ndarray:
    height, width = images.shape[1:3]
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity] / scale
    result = []
    for image in (images * 255).round().astype(np.uint8):
        small = Image.fromarray(image).resize((int(width * share), int(height * share)), Image.Resampling.BOX)
        result.append(np.asarray(small.resize((width, height), Image.Resampling.BOX)))
    return np.stack(result) / 255


_FUNCTIONS: tuple[_Corruption, ...] = (
    *(_gaussian_noise, _shot_noise, _impulse_noise, _speckle_noise),
    *(_gaussian_blur, _defocus_blur, _motion_blur, _zoom_blur),
    *(_fog, _brightness, _saturation, _contrast, _jpeg, _pixelation),
)
_CORRUPTIONS = {function.__name__[1:].replace("_", " "): function for function in _FUNCTIONS}
KINDS = tuple(_CORRUPTIONS)
EXTRA = ("speckle noise", "gaussian blur", "saturation")  # not among the fifteen of CIFAR-10-C's mean
