"""Pairs of duplicate images within and across splits."""

from collections.abc import Sequence
from itertools import combinations_with_replacement

import torch

from cifar_lit.evaluation.duplicates import (
    DuplicateThresholds,
    Fingerprints,
    find_exact_duplicates,
    find_near_duplicates,
)
from cifar_lit.progress import with_progress
from report.audit.images import AuditedImage, Issue


def find_duplicates(images: Sequence[AuditedImage], prints: Fingerprints, limits: DuplicateThresholds) -> list[Issue]:
    """Return each image that has duplicates with the most similar one, for every pair of splits.

    Pairs with different labels come first, then pairs across splits, then identical ones.
    """
    rows: dict[str, list[int]] = {}
    for row, image in enumerate(images):
        rows.setdefault(image.split, []).append(row)
    issues: list[Issue] = []
    for earlier, later in with_progress(list(combinations_with_replacement(rows, 2)), "Comparing images"):
        first, second, is_same = rows[earlier], rows[later], earlier == later
        digests, others = ([images[row].measured.digest for row in part] for part in (second, first))
        exact = find_exact_duplicates(digests, others, is_same)
        found = [(a, b, "exact", "identical") for a, b in exact]
        queries, candidates = (prints.rows(torch.tensor(part)) for part in (second, first))
        matches = find_near_duplicates(queries, candidates, limits, is_same)
        done = {row for row, _ in exact}
        for a, b, distance, correlation in zip(*(values.tolist() for values in matches), strict=True):
            if a not in done:
                found.append((a, b, "near", f"hash distance {distance}, correlation {correlation:.3f}"))
        for a, b, how, detail in found:
            image, kind = images[second[a]], f"{how} duplicate {'in a split' if is_same else 'across splits'}"
            issues.append(Issue(kind, detail, image.place, image, images[first[b]]))
    return sorted(issues, key=lambda issue: (not issue.has_other_class, "across" not in issue.kind, issue.kind))
