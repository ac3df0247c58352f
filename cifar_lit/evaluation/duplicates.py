"""Duplicate images, by perceptual hash and small color thumbnails."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.fft import dctn
from torch import Tensor

_MAX_PAIRS = 2**23  # compared at a time; bounds the memory even if all images are alike
_MIN_CONTRAST = 4.0  # gray levels; images with less, such as blank pages, are not compared


@dataclass(frozen=True)
class DuplicateThresholds:
    """When two images are near-duplicates: their hashes agree, and so do their thumbnails or their features.

    Args:
        max_hash_distance: Maximum number of different bits, of 64, between their perceptual hashes.
        min_correlation: Minimum correlation of their 8x8 RGB thumbnails.
        min_similarity: Minimum cosine similarity of the features of a trained network, if one is given.
    """

    # Chosen on CIFAR-10, see docs/audit.md
    max_hash_distance: int = 10
    min_correlation: float = 0.94
    min_similarity: float = 0.99


class Fingerprints(NamedTuple):
    """What images are compared by.

    hashes: int64 (N,), the 64 bits of the perceptual hashes.
    thumbnails: float32 (N, 192), with mean 0 and length 1; 0 for images without contrast.
    features: float32 (N, F), of a trained network, with length 1; F may be 0.
    """

    hashes: Tensor
    thumbnails: Tensor
    features: Tensor

    def rows(self, rows: Tensor | slice) -> "Fingerprints":
        """Return those of some images."""
        return Fingerprints(*(values[rows] for values in self))


class Matches(NamedTuple):
    """Images with a near-duplicate, and the most similar one of each.

    queries, candidates: int64 (K,), rows of both.
    distances: int64 (K,), number of different bits between their hashes.
    correlations: float32 (K,), of their thumbnails.
    """

    queries: Tensor
    candidates: Tensor
    distances: Tensor
    correlations: Tensor

    def rows(self, rows: Tensor) -> "Matches":
        """Return some of the matches."""
        return Matches(*(values[rows] for values in self))


def small_images(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Return an RGB image in gray, uint8 (32, 32), and in color, uint8 (8, 8, 3), for ``fingerprints``."""
    gray = image.convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    return np.asarray(gray), np.asarray(image.resize((8, 8), Image.Resampling.BOX))


def fingerprints(small: Sequence[tuple[np.ndarray, np.ndarray]], features: Tensor | None = None) -> Fingerprints:
    """Return the fingerprints of images.

    Args:
        small: The N images in small, see ``small_images``.
        features: float32 (N, F), with length 1.

    Source: pHash, as in the package imagehash (``imagehash.phash``).
    """
    gray, color = (np.stack(images).astype(np.float32) for images in zip(*small, strict=True))
    low = dctn(gray.astype(np.float64), axes=(1, 2))[:, :8, :8].reshape(-1, 64)
    bits = low > np.median(low, axis=1, keepdims=True)
    hashes = torch.from_numpy(np.packbits(bits, axis=1).view(np.int64)[:, 0])
    thumbnails = torch.from_numpy(color).flatten(1)
    thumbnails = F.normalize(thumbnails - thumbnails.mean(1, keepdim=True), dim=1)
    thumbnails[torch.from_numpy(gray.std((1, 2))) < _MIN_CONTRAST] = 0
    return Fingerprints(hashes, thumbnails, torch.zeros(len(hashes), 0) if features is None else features)


def fingerprints_of_pixels(batches: Iterable[Tensor]) -> Fingerprints:
    """Return the fingerprints of images in batches uint8 (n, 3, H, W)."""
    images = (image for batch in batches for image in batch.permute(0, 2, 3, 1).cpu().numpy())
    return fingerprints([small_images(Image.fromarray(image)) for image in images])


def find_near_duplicates(
    queries: Fingerprints, candidates: Fingerprints, limits: DuplicateThresholds, is_same: bool = False
) -> Matches:
    """Find the most similar near-duplicate of each query among the candidates.

    Args:
        queries, candidates: The images.
        limits: When two images are near-duplicates.
        is_same: Whether both are the same images: each is then compared only with those before it.
    """
    found, chunk = [], max(1, _MAX_PAIRS // len(candidates.hashes))
    for start in range(0, len(queries.hashes), chunk):
        some = queries.rows(slice(start, start + chunk))
        others = candidates.rows(slice(0, start + chunk)) if is_same else candidates
        correlations = some.thumbnails @ others.thumbnails.T  # (n, M)
        is_similar = correlations >= limits.min_correlation
        if some.features.shape[1]:
            is_similar |= some.features @ others.features.T >= limits.min_similarity
        rows, columns = is_similar.nonzero(as_tuple=True)
        different_bits = (some.hashes[rows] ^ others.hashes[columns]).numpy().view(np.uint64)
        distances = torch.from_numpy(np.bitwise_count(different_bits).astype(np.int64))
        kept = distances <= limits.max_hash_distance
        if is_same:
            kept &= columns < rows + start
        found.append(Matches(rows + start, columns, distances, correlations[rows, columns]).rows(kept))
    matches = Matches(*(torch.cat(values) for values in zip(*found, strict=True)))
    ranked = matches.rows(torch.from_numpy(np.lexsort((-matches.correlations.numpy(), matches.queries.numpy()))))
    _, first = np.unique(ranked.queries.numpy(), return_index=True)  # the highest correlation of each query
    return ranked.rows(torch.from_numpy(first))


def find_exact_duplicates(
    queries: Sequence[bytes], candidates: Sequence[bytes], is_same: bool = False
) -> list[tuple[int, int]]:
    """Return the rows of queries that equal a candidate, each with the first such candidate's row.

    Args:
        queries, candidates: Digests of the images.
        is_same: Whether both are the same images: each is then compared only with those before it.

    >>> find_exact_duplicates([b"a", b"b", b"a", b"a"], [b"a", b"b", b"a", b"a"], is_same=True)
    [(2, 0), (3, 0)]
    """
    first = {digest: row for row, digest in reversed(list(enumerate(candidates)))}
    pairs = [(row, first[digest]) for row, digest in enumerate(queries) if digest in first]
    return [(row, other) for row, other in pairs if not is_same or other < row]
