"""What a visitor's images are, and what the network says of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from callbacks.rendering.grid import enlarged
from callbacks.rendering.heatmaps import Method
from callbacks.rendering.overlay import overlay
from cifar_lit.inference.images import Fit
from space.app.decoder import DECODER, FORMATS, MOST_PIXELS, TILE
from space.app.network import Network
from space.app.validation import MOST_IMAGES

LIMITS = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]} file of at most {MOST_PIXELS // 10**6} million pixels"


@dataclass(frozen=True)
class Images:
    """Images that were uploaded.

    paths: All files, the refused ones too.
    numbers: Of each image in the order of the files, beginning with 1; refused ones lack.
    uploads: uint8 (h, w, 3) of each, as a person sees it, reduced for the page.
    pixels: uint8 (N, H, W, 3), what the network sees.
    refused: Why others were left out, a sentence each.
    """

    paths: list[str]
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
        read = DECODER.read(path, size, fit)
        if read is None:
            refused.append(f"Image {number} cannot be read: it must be a whole {LIMITS}, and no puzzle to open.")
            continue
        numbers.append(number)
        pixels.append(read.seen)
        uploads.append(read.upload)
    if len(paths) > MOST_IMAGES:
        refused.append(f"Of {len(paths)} images the first {MOST_IMAGES} are classified.")
    stacked = np.stack(pixels) if pixels else np.zeros((0, *size, 3), np.uint8)
    return Images(list(paths), numbers, uploads, stacked, refused)


@dataclass(frozen=True)
class HeatmapResult:
    """An image's heatmaps.

    classes: K of them.
    maps: uint8 (K, H, W).
    """

    classes: list[int]
    maps: np.ndarray


@dataclass(frozen=True)
class ExplainOptions:
    """How images are explained.

    first: How many of them.
    layer, method: The heatmaps'.
    """

    first: int = 0
    layer: str = ""
    method: Method = "gradcam"


@dataclass(frozen=True)
class Answer:
    """Images, what the network says of them, and why.

    logits: float32 (N, C).
    asked: A class that the visitor asked about besides the predicted one, by the place of the image.
    explained: Heatmaps, by the place of the image.
    """

    images: Images
    logits: np.ndarray
    asked: dict[int, int] = field(default_factory=dict)
    explained: dict[int, HeatmapResult] = field(default_factory=dict)

    def explain(self, network: Network, how: ExplainOptions) -> "Answer":
        """The answer with other heatmaps: of the first images, and of those of which something was asked."""
        places = [place for place in range(len(self.logits)) if place < how.first or place in self.asked]
        if not places:
            return replace(self, explained={})
        predicted = self.logits.argmax(1)
        columns = [[predicted[place] for place in places]]
        if self.asked:
            columns.append([self.asked.get(place, predicted[place]) for place in places])
        classes = np.array(columns).T
        _, maps = network.run(self.images.pixels[places], len(places), classes, how.layer, how.method)
        explained = {}
        for place, of_image, of_maps in zip(places, classes.tolist(), maps, strict=True):
            kinds = list(dict.fromkeys(of_image))
            explained[place] = HeatmapResult(kinds, of_maps[: len(kinds)])
        return replace(self, explained=explained)

    def overlays(self, place: int, opacity: float) -> list[tuple[np.ndarray, int]]:
        """The heatmaps of an image laid over it, uint8 (h, w, 3) each, for a page, with the classes they explain."""
        found = self.explained.get(place)
        if found is None:
            return []
        return list(zip(overlaid(self.images.pixels[place], found.maps, opacity), found.classes, strict=True))


def classify(network: Network, images: Images, how: ExplainOptions | None = None) -> Answer:
    """What the network says of the images, with heatmaps of the predicted classes of as many as asked, in one pass."""
    how = how or ExplainOptions()
    logits, maps = network.run(images.pixels, how.first, None, how.layer, how.method)
    predicted = logits.argmax(1).tolist()
    return Answer(
        images, logits, {}, {place: HeatmapResult([predicted[place]], part) for place, part in enumerate(maps)}
    )


def overlaid(pixels: np.ndarray, maps: np.ndarray, opacity: float) -> list[np.ndarray]:
    """Heatmaps uint8 (K, H, W) laid over an image uint8 (H, W, 3), enlarged for a page."""
    return list(for_page(overlay(pixels[None], maps / 255, opacity)))


def for_page(pixels: np.ndarray) -> np.ndarray:
    """Images uint8 (N, H, W, 3), enlarged so that a person can see their pixels."""
    return enlarged(pixels, TILE)
