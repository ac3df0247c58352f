"""What a page shows: a classifier, how it was judged, and where its files are."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cifar_lit.bundle import read_bundle
from cifar_lit.errors import InputError
from cifar_lit.judged import Facts, Judged
from space.network import Network

NOTHING_JUDGED = "This Space was made without images to judge the network by."
JUDGED, FACTS, EXAMPLES = "judged.safetensors", "facts.json", "examples"  # beside the recipe and the weights


@dataclass(frozen=True)
class Shown:
    """All that a page shows.

    folder: The bundle's.
    judged: How the classifier was judged; None where there were no images.
    about: The model card, Markdown.
    """

    folder: Path
    network: Network
    facts: Facts
    judged: Judged | None
    about: str

    @classmethod
    def load(cls, folder: Path, about: str, trusted: Sequence[str] = ()) -> "Shown":
        """What lies in a bundle's folder.

        Args:
            folder: The bundle's.
            about: The model card, Markdown.
            trusted: See ``read_bundle``.

        Raises:
            InputError: if the folder is not as it was exported.
        """
        try:
            facts = Facts.of_json(json.loads((folder / FACTS).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{folder / FACTS} cannot be read ({error}); export it again") from error
        network = Network(read_bundle(folder, trusted))
        judged = Judged.load(folder / JUDGED) if (folder / JUDGED).is_file() else None
        if judged is not None and len(judged.counts) != len(network.class_names):
            raise InputError(f"{folder / JUDGED} is of another classifier; export it again")
        return cls(folder, network, facts, judged, about)
