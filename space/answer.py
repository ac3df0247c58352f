"""What a visitor's images are, and what the network says of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from callbacks.rendering.grid import enlarged
from callbacks.rendering.heatmaps import Method
from callbacks.rendering.overlay import overlay
from cifar_lit.errors import InputError
from cifar_lit.images import Fit, read_image
from space.controls import MOST_IMAGES
from space.network import PREDICTED, Network

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
_MOST_PIXELS = 16_000_000
_TILE = 224  # pixels that small images are enlarged to


@dataclass(frozen=True)
class Images:
    """Images that were uploaded.

    numbers: Of each in the order of the uploads, beginning with 1; unreadable ones lack.
    uploads: uint8 (h, w, 3) of each, as a person sees it, reduced for the page.
    pixels: uint8 (N, H, W, 3), what the network sees.
    refused: Why others were left out, a sentence each.
    """

    numbers: list[int]
    uploads: list[np.ndarray]
    pixels: np.ndarray
    refused: list[str]


def read_images(paths: Sequence[str], size: tuple[int, int], fit: Fit) -> Images:
    """The images of these files, the first ten at most.

    Args:
        paths: The files.
        size: Height and width that the network takes.
        fit: How an image of other proportions is made to fit.
    """
    numbers, uploads, pixels, refused = [], [], [], []
    for number, path in enumerate(paths[:MOST_IMAGES], start=1):
        try:
            seen = read_image(Path(path), size, fit, _FORMATS, _MOST_PIXELS)
            uploads.append(read_image(Path(path), (384, 384), "inside", _FORMATS, _MOST_PIXELS))
        except InputError:
            kinds = ", ".join(_FORMATS)
            refused.append(
                f"Image {number} cannot be read: it must be a whole {kinds} file of at most"
                f" {_MOST_PIXELS // 10**6} million pixels."
            )
            continue
        numbers.append(number)
        pixels.append(seen)
    if len(paths) > MOST_IMAGES:
        refused.append(f"Of {len(paths)} images the first {MOST_IMAGES} are classified.")
    stacked = np.stack(pixels) if pixels else np.zeros((0, *size, 3), np.uint8)
    return Images(numbers, uploads, stacked, refused)


@dataclass(frozen=True)
class Explained:
    """An image's heatmaps.

    classes: K of them.
    maps: uint8 (K, H, W).
    """

    classes: list[int]
    maps: np.ndarray


@dataclass(frozen=True)
class Answer:
    """Images, what the network says of them, and why.

    logits: float32 (N, C).
    asked: For each image, a class that the visitor asked about besides the predicted one, or None.
    explained: Heatmaps by the place of the image.
    """

    images: Images
    logits: np.ndarray
    asked: list[int | None]
    explained: dict[int, Explained] = field(default_factory=dict)

    def explain(self, network: Network, first: int, layer: str, method: Method) -> "Answer":
        """The answer with heatmaps of the first images, and of those of which something was asked."""
        places = [place for place, asked in enumerate(self.asked) if place < first or asked is not None]
        if not places:
            return replace(self, explained={})
        classes = [[PREDICTED, PREDICTED if self.asked[place] is None else self.asked[place]] for place in places]
        _, maps = network.run(self.images.pixels[places], np.array(classes), layer, method)
        explained = {}
        for place, of_image in zip(places, maps, strict=True):
            predicted, asked = int(self.logits[place].argmax()), self.asked[place]
            kinds = [predicted] if asked is None or asked == predicted else [predicted, asked]
            explained[place] = Explained(kinds, of_image[: len(kinds)])
        return replace(self, explained=explained)

    def overlays(self, place: int, opacity: float) -> list[tuple[np.ndarray, int]]:
        """The heatmaps of an image laid over it, uint8 (h, w, 3) each, for a page, with the classes they explain."""
        found = self.explained.get(place)
        if found is None:
            return []
        return list(zip(overlaid(self.images.pixels[place], found.maps, opacity), found.classes, strict=True))


def classify(network: Network, images: Images) -> Answer:
    """What the network says of the images, without heatmaps."""
    logits, _ = network.run(images.pixels)
    return Answer(images, logits, [None] * len(logits))


def overlaid(pixels: np.ndarray, maps: np.ndarray, opacity: float) -> list[np.ndarray]:
    """Heatmaps uint8 (K, H, W) laid over an image uint8 (H, W, 3), enlarged for a page."""
    return list(for_page(overlay(pixels[None], maps / 255, opacity)))


def for_page(pixels: np.ndarray) -> np.ndarray:
    """Images uint8 (N, H, W, 3), enlarged so that a person can see their pixels."""
    return enlarged(pixels, _TILE)
