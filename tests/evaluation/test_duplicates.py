"""Near-duplicates, by an independent implementation of the perceptual hash and by hand."""

import imagehash
import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from cifar_lit.evaluation.duplicates import (
    DuplicateThresholds,
    find_near_duplicates,
    fingerprints,
    fingerprints_of_pixels,
    small_images,
)
from tests.support.images import random_photo

LIMITS = DuplicateThresholds()


def prints(*images: Image.Image, features: torch.Tensor | None = None):  # type: ignore[no-untyped-def]
    return fingerprints([small_images(image) for image in images], features)


@pytest.mark.parametrize("size", [(32, 32), (90, 60), (400, 300)])
def test_the_hash_equals_that_of_imagehash(size: tuple[int, int]) -> None:
    for seed in range(20):
        image = random_photo(seed, size)
        bits = np.unpackbits(prints(image).hashes.numpy().view(np.uint8))
        assert (bits.reshape(8, 8) == imagehash.phash(image).hash).all()


def test_distances_equal_those_of_imagehash() -> None:
    images = [random_photo(seed, (64, 64)) for seed in range(30)]
    found = find_near_duplicates(prints(*images[:10]), prints(*images[10:]), DuplicateThresholds(64, -1.0))
    assert found.queries.tolist() == list(range(10))
    hashes = [imagehash.phash(image) for image in images]
    assert found.distances.tolist() == [
        hashes[query] - hashes[10 + other]
        for query, other in zip(found.queries.tolist(), found.candidates.tolist(), strict=True)
    ]


def test_the_correlation_is_that_of_numpy_and_the_best_match_is_found() -> None:
    images = [random_photo(seed, (64, 64)) for seed in range(12)]
    thumbnails = [np.asarray(image.resize((8, 8), Image.Resampling.BOX)).ravel() for image in images]
    expected = np.corrcoef(thumbnails)[:4, 4:]
    found = find_near_duplicates(prints(*images[:4]), prints(*images[4:]), DuplicateThresholds(64, -1.0))
    assert found.candidates.tolist() == expected.argmax(1).tolist()
    assert found.correlations.numpy() == pytest.approx(expected.max(1), abs=1e-5)


def test_altered_copies_are_found_and_other_images_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifar_lit.evaluation.duplicates._MAX_PAIRS", 7)  # several chunks
    images = [random_photo(seed, (120, 90)) for seed in range(10)]
    copies = [
        images[1].resize((60, 45)),
        images[2].filter(ImageFilter.GaussianBlur(1)),
        images[3].point(lambda v: v // 2),
    ]
    found = find_near_duplicates(prints(*copies), prints(*images), LIMITS)
    assert (found.queries.tolist(), found.candidates.tolist()) == ([0, 1, 2], [1, 2, 3])
    both = prints(*images, *copies)
    found = find_near_duplicates(both, both, LIMITS, is_same=True)
    assert (found.queries.tolist(), found.candidates.tolist()) == ([10, 11, 12], [1, 2, 3])
    assert len(find_near_duplicates(prints(*images), prints(*images), LIMITS, is_same=True).queries) == 0


def test_images_without_contrast_have_no_duplicates() -> None:
    blank = prints(*[Image.new("RGB", (40, 40), color) for color in ("white", "white", "navy", "navy")])
    assert len(find_near_duplicates(blank, blank, LIMITS, is_same=True).queries) == 0


def test_features_find_images_whose_thumbnails_differ() -> None:
    image = random_photo(0, (64, 64))
    inverted = Image.fromarray(255 - np.asarray(image))
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    limits = DuplicateThresholds(max_hash_distance=64)
    for given, count in ((None, 0), (features, 1)):
        both = prints(image, inverted, features=given)
        assert len(find_near_duplicates(both, both, limits, is_same=True).queries) == count


def test_batches_of_pixels_give_the_same_fingerprints() -> None:
    images = [random_photo(seed, (32, 32)) for seed in range(5)]
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)
    for one, other in zip(fingerprints_of_pixels(pixels.split(2)), prints(*images), strict=True):
        assert one.equal(other)
