"""Pairs of duplicate images within and across splits."""

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import NamedTuple

import torch

from cifar_lit.evaluation.duplicates import (
    DuplicateThresholds,
    Fingerprints,
    find_exact_duplicates,
    find_near_duplicates,
)
from report.audit.images import AuditedImage
from space.export.progress import with_progress


class DuplicatePair(NamedTuple):
    """Two images that are the same.

    image, other: The images; ``other`` is in an earlier split or before ``image`` in its own.
    is_exact: Whether they are identical.
    detail: How similar they are.
    """

    image: AuditedImage
    other: AuditedImage
    is_exact: bool
    detail: str

    @property
    def is_across(self) -> bool:
        """Whether they are in different splits."""
        return self.image.split != self.other.split

    @property
    def has_other_label(self) -> bool:
        """Whether their labels differ."""
        return self.image.label != self.other.label

    @property
    def kind(self) -> str:
        """The kind of duplicate, as in the CSV file."""
        return f"{'exact' if self.is_exact else 'near'} duplicate {'across splits' if self.is_across else 'in a split'}"


def find_pairs(
    images: Sequence[AuditedImage], prints: Fingerprints, limits: DuplicateThresholds
) -> list[DuplicatePair]:
    """Return each image that has duplicates with the most similar one, for every pair of splits.

    Pairs with different labels come first, then pairs across splits, then identical ones.
    """
    rows: dict[str, list[int]] = {}
    for row, image in enumerate(images):
        rows.setdefault(image.split, []).append(row)
    pairs: list[DuplicatePair] = []
    combinations = list(combinations_with_replacement(rows, 2))
    for earlier, later in with_progress(combinations, "Comparing images", len(combinations)):
        first, second, is_same = rows[earlier], rows[later], earlier == later
        digests, others = ([images[row].measured.digest for row in part] for part in (second, first))
        exact = find_exact_duplicates(digests, others, is_same)
        pairs += [DuplicatePair(images[second[a]], images[first[b]], True, "identical") for a, b in exact]
        queries, candidates = (prints.rows(torch.tensor(part)) for part in (second, first))
        matches = find_near_duplicates(queries, candidates, limits, is_same)
        done = {row for row, _ in exact}
        for a, b, distance, correlation in zip(*(values.tolist() for values in matches), strict=True):
            if a not in done:
                detail = f"hash distance {distance}, correlation {correlation:.3f}"
                pairs.append(DuplicatePair(images[second[a]], images[first[b]], False, detail))
    return sorted(pairs, key=lambda pair: (not pair.has_other_label, not pair.is_across, not pair.is_exact))
