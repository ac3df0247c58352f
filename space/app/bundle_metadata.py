"""Metadata of a bundle: its run, curves, examples and threshold for unknown images."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cifar_lit.evaluation.ood import OODThreshold

# Precedes the run's report in a Space's README; the page shows only what is above it
REPORT_MARKER = "<!-- The report on the run -->"


@dataclass(frozen=True)
class BundleMetadata:
    """What else a bundle tells of a run, as plain JSON.

    title: Of the classifier, for people.
    run: BundleMetadata by name, for people: the data, the seed, how long it was trained and so on.
    history: Curves by name (``train/loss``): pairs of step and value.
    unknown: See ``Unknown``; None where there were no images to fit it on.
    examples: The examples' files, and the controls that each sets.
    """

    title: str
    run: dict[str, str]
    history: dict[str, list[tuple[float, float]]]
    unknown: OODThreshold | None
    examples: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """As dicts, lists and scalars."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "BundleMetadata":
        """The facts of what ``to_json`` gave."""
        unknown = facts["unknown"]
        return cls(**{**facts, "unknown": OODThreshold(**unknown) if unknown else None})
