"""Metadata of a bundle: its run, curves, examples, default heatmap and out-of-distribution threshold."""

from dataclasses import dataclass
from typing import Any

from callbacks.rendering.class_activation_maps import Method
from cifar_lit.evaluation.ood import OODThreshold

EVALUATION, METADATA, EXAMPLES = "evaluation.safetensors", "metadata.json", "examples"  # next to the network's files
NO_EVALUATION = "This Space was exported without evaluation images."
SPLIT_NAMES = {"val": "validation", "test": "test"}
# Markers in a Space's README: the About tab ends at the first, the Report tab begins at the second
DETAILS_MARKER, REPORT_MARKER = "<!-- Details -->", "<!-- The report on the run -->"
REPORT_FILES = "report_files"  # folder of the report's pictures


@dataclass(frozen=True)
class BundleMetadata:
    """Metadata of a bundle, as plain JSON.

    title: Title of the page.
    run: Metadata of the run by name, for display: the data, the seed, the training time and so on.
    history: Curves by name (``train/loss``), as pairs of step and value.
    unknown: Threshold for out-of-distribution images; None if there were no images to fit it on.
    examples: The examples' files, and the controls that each one sets.
    layer, method: The default layer and method of heatmaps; the layer is empty if the network has no feature maps.
    """

    title: str
    run: dict[str, str]
    history: dict[str, list[tuple[float, float]]]
    unknown: OODThreshold | None
    examples: list[dict[str, Any]]
    layer: str
    method: Method
