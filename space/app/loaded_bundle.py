"""A bundle as loaded by the page."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from callbacks.rendering.markdown import shade
from cifar_lit.errors import InputError
from cifar_lit.evaluation.ood import OODThreshold
from cifar_lit.evaluation.result import EvaluationResult
from cifar_lit.inference.bundle import read_bundle
from space.app.bundle_metadata import (
    DETAILS_MARKER,
    EVALUATION,
    METADATA,
    REPORT_FILES,
    REPORT_MARKER,
    BundleMetadata,
)
from space.app.service import Network


@dataclass(frozen=True)
class LoadedBundle:
    """Everything the page shows.

    folder: The bundle's folder.
    evaluation: The evaluation; None if there were no images.
    about, report: The beginning of the model card, and the report on the run, empty if there is none; Markdown.
    """

    folder: Path
    network: Network
    metadata: BundleMetadata
    evaluation: EvaluationResult | None
    about: str
    report: str = ""

    @classmethod
    def load(cls, folder: Path, readme: str, trusted: Sequence[str] = ()) -> "LoadedBundle":
        """Load a bundle from its folder.

        Args:
            folder: The bundle's folder.
            readme: The Space's README: the model card, then possibly the report on the run.
            trusted: See ``read_bundle``.

        Raises:
            InputError: if a file is missing or damaged, or belongs to another classifier.
        """
        try:
            stored = json.loads((folder / METADATA).read_text(encoding="utf-8"))
            unknown = None if stored["unknown"] is None else OODThreshold(**stored["unknown"])
            metadata = BundleMetadata(**stored | {"unknown": unknown})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{folder / METADATA} cannot be read ({error}); export it again") from error
        network = Network(read_bundle(folder, trusted), metadata.unknown, metadata.layer, metadata.method)
        evaluation = EvaluationResult.load(folder / EVALUATION) if (folder / EVALUATION).is_file() else None
        if evaluation is not None and len(evaluation.counts) != len(network.class_names):
            raise InputError(f"{folder / EVALUATION} belongs to another classifier; export it again")
        card, _, report = readme.partition(REPORT_MARKER)
        about = card.partition(DETAILS_MARKER)[0]
        pictures = folder.resolve().parent / REPORT_FILES
        for dark in pictures.glob("dark_*.png"):  # below each picture, of which the style sheet shows one
            picture = rf"(!\[[^\]]*\]\({REPORT_FILES}/){re.escape(dark.name.removeprefix('dark_'))}\)"
            report = re.sub(picture, rf"\g<0>\n\n\g<1>{dark.name})", report)
        report = report.replace(f"]({REPORT_FILES}/", f"](/gradio_api/file={quote(pictures.as_posix())}/")
        return cls(folder, network, metadata, evaluation, _without_title(about), _shaded(_without_title(report)))


def _shaded(report: str) -> str:
    """Return the report with the low percentages of its table of corruptions on a darker background."""

    def shaded(cell: re.Match[str]) -> str:
        return f'| <span style="{shade(float(cell[1]))}">{cell[1]}%</span> '

    before, heading, rest = report.partition("\n## Corrupted images\n")
    section, end, after = rest.partition("\n## ")
    return before + heading + re.sub(r"\| ([\d.]+)% (?=\|)", shaded, section) + end + after


def _without_title(document: str) -> str:
    """Return Markdown without its first heading, which the page shows above its tabs."""
    return re.sub(r"\A\s*# .*\n", "", document)
