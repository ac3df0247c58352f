"""Metadata of a bundle: its run, curves, examples and out-of-distribution threshold."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cifar_lit.evaluation.ood import OODThreshold

EVALUATION, METADATA, EXAMPLES = "evaluation.safetensors", "metadata.json", "examples"  # next to the network's files
NO_EVALUATION = "This Space was exported without evaluation images."
# Precedes the run's report in a Space's README; the page shows only what is above it
REPORT_MARKER = "<!-- The report on the run -->"


@dataclass(frozen=True)
class BundleMetadata:
    """Metadata of a bundle, as plain JSON.

    title: Title of the page.
    run: Metadata of the run by name, for display: the data, the seed, the training time and so on.
    history: Curves by name (``train/loss``), as pairs of step and value.
    unknown: Threshold for out-of-distribution images; None if there were no images to fit it on.
    examples: The examples' files, and the controls that each one sets.
    """

    title: str
    run: dict[str, str]
    history: dict[str, list[tuple[float, float]]]
    unknown: OODThreshold | None
    examples: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Return the metadata as dicts, lists and scalars."""
        return asdict(self)

    @classmethod
    def from_json(cls, metadata: Mapping[str, Any]) -> "BundleMetadata":
        """Return the metadata from the output of ``to_json``."""
        unknown = metadata["unknown"]
        return cls(**{**metadata, "unknown": OODThreshold(**unknown) if unknown else None})
