"""A bundle as loaded by the page."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cifar_lit.errors import InputError
from cifar_lit.evaluation.result import EvaluationResult
from cifar_lit.inference.bundle import read_bundle
from space.app.bundle_metadata import EVALUATION, METADATA, BundleMetadata
from space.app.service import Network


@dataclass(frozen=True)
class LoadedBundle:
    """Everything the page shows.

    folder: The bundle's folder.
    evaluation: The evaluation; None if there were no images.
    about: The model card, Markdown.
    """

    folder: Path
    network: Network
    metadata: BundleMetadata
    evaluation: EvaluationResult | None
    about: str

    @classmethod
    def load(cls, folder: Path, about: str, trusted: Sequence[str] = ()) -> "LoadedBundle":
        """Load a bundle from its folder.

        Args:
            folder: The bundle's folder.
            about: The model card, Markdown.
            trusted: See ``read_bundle``.

        Raises:
            InputError: if a file is missing or damaged, or belongs to another classifier.
        """
        try:
            metadata = BundleMetadata.from_json(json.loads((folder / METADATA).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{folder / METADATA} cannot be read ({error}); export it again") from error
        network = Network(read_bundle(folder, trusted), metadata.unknown)
        evaluation = EvaluationResult.load(folder / EVALUATION) if (folder / EVALUATION).is_file() else None
        if evaluation is not None and len(evaluation.counts) != len(network.class_names):
            raise InputError(f"{folder / EVALUATION} belongs to another classifier; export it again")
        return cls(folder, network, metadata, evaluation, about)
