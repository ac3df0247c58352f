"""What a page shows: a classifier, how it was judged, and where its files are."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cifar_lit.errors import InputError
from cifar_lit.evaluation.result import EvaluationResult
from cifar_lit.inference.bundle import read_bundle
from space.app.bundle_metadata import BundleMetadata
from space.app.network import Network

NOTHING_JUDGED = "This Space was made without images to judge the network by."
EVALUATION, METADATA, EXAMPLES = (
    "evaluation.safetensors",
    "metadata.json",
    "examples",
)  # beside the recipe and the weights


@dataclass(frozen=True)
class LoadedBundle:
    """All that a page shows.

    folder: The bundle's.
    judged: How the classifier was judged; None where there were no images.
    about: The model card, Markdown.
    """

    folder: Path
    network: Network
    facts: BundleMetadata
    judged: EvaluationResult | None
    about: str

    @classmethod
    def load(cls, folder: Path, about: str, trusted: Sequence[str] = ()) -> "LoadedBundle":
        """What lies in a bundle's folder.

        Args:
            folder: The bundle's.
            about: The model card, Markdown.
            trusted: See ``read_bundle``.

        Raises:
            InputError: if the folder is not as it was exported.
        """
        try:
            facts = BundleMetadata.from_json(json.loads((folder / METADATA).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{folder / METADATA} cannot be read ({error}); export it again") from error
        network = Network(read_bundle(folder, trusted))
        judged = EvaluationResult.load(folder / EVALUATION) if (folder / EVALUATION).is_file() else None
        if judged is not None and len(judged.counts) != len(network.class_names):
            raise InputError(f"{folder / EVALUATION} is of another classifier; export it again")
        return cls(folder, network, facts, judged, about)
