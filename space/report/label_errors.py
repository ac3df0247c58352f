"""Images whose label may be wrong, found by confident learning."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from cifar_lit.data.batches import LabelledImages


@dataclass(frozen=True)
class Examined:
    """Images with what a network that did not learn from them says of them.

    name: Of the data set: ``train``, ``val``, ``test``.
    images: The data set.
    rows: int64 (n,), which of it.
    shares: float (n, C), the probabilities of the classes, as the network has them (at temperature 1).
    """

    name: str
    images: LabelledImages
    rows: Tensor
    shares: Tensor

    @property
    def labels(self) -> Tensor:
        """int64 (n,)."""
        return self.images.labels[self.rows.to(self.images.labels.device)].cpu()


@dataclass(frozen=True)
class Suspect:
    """An image whose label may be wrong.

    part: Of what was examined.
    place: In that part.
    label: That it has.
    suggested: The label that the network would give.
    score: The probability that the network gives to the label that it has.
    """

    part: Examined
    place: int
    label: int
    suggested: int
    score: float

    @property
    def row(self) -> int:
        """Its place in the data set."""
        return int(self.part.rows[self.place])


def all_suspects(parts: Sequence[Examined]) -> list[Suspect]:
    """The images whose label may be wrong, the likeliest first; each part is judged by itself."""
    found = []
    for part in parts:
        labels = part.labels.numpy()
        of_part = suspects(labels, part.shares.numpy())
        for place, suggested, score in zip(of_part.rows, of_part.suggested, of_part.scores, strict=True):
            found.append(Suspect(part, int(place), int(labels[place]), int(suggested), float(score)))
    return sorted(found, key=lambda one: one.score)


@dataclass(frozen=True)
class Suspects:
    """Images whose label may be wrong, the likeliest first.

    rows: int64 (K,), their places in what was examined.
    suggested: int64 (K,), the label that the network would give.
    scores: float (K,), the probability that the network gives to the label that the image has: the lower, the likelier
        it is wrong.
    """

    rows: np.ndarray
    suggested: np.ndarray
    scores: np.ndarray


def suspects(labels: np.ndarray, shares: np.ndarray) -> Suspects:
    """Finds the images whose label may be wrong.

    Args:
        labels: int64 (N,), as given.
        shares: float (N, C), the probabilities that a network that did not learn from these images gives the classes.

    Source: Northcutt, Jiang & Chuang 2021, arXiv:1911.00068, by the cleanlab library.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_self_confidence_for_each_label

    if len(np.unique(labels)) < 2:
        return Suspects(*(np.zeros(0, kind) for kind in (np.int64, np.int64, np.float64)))
    rows = find_label_issues(
        labels,
        shares,
        filter_by="confident_learning",  # as callbacks.label_errors, which the pictures and the page are marked by
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    scores = get_self_confidence_for_each_label(labels, shares)
    return Suspects(np.asarray(rows), shares.argmax(1)[rows], scores[rows])
