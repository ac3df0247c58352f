"""Texts that come from elsewhere (names of classes, files), put into Markdown as they are, and tables."""

import re
from collections.abc import Iterable, Sequence

from torch import Tensor

from cifar_lit.judged import Judged

REPORT = "<!-- The report on the run -->"  # before it in a Space's README, whose page shows what stands before


def escaped(text: object) -> str:
    r"""The text as Markdown shows it letter by letter, whatever it holds.

    >>> print(escaped("a_b <img> | c"))
    a\_b &lt;img&gt; \| c
    """
    plain = str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~$!])", r"\\\1", " ".join(plain.split()))


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table, its cells escaped.

    >>> print(table(["class", "images"], [["cat", 3]]))
    | class | images |
    | --- | --- |
    | cat | 3 |
    """
    lines = [list(header), ["---"] * len(header), *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


CLASS_SCORES = ("class", "images", "precision", "recall", "F1")


def class_scores(class_names: Sequence[str], judged: Judged) -> list[tuple[str, ...]]:
    """A row of ``CLASS_SCORES`` for each class."""
    return [
        (name, f"{images:,}", *(f"{score:.3f}" if images else "" for score in scores))
        for name, (images, *scores) in zip(class_names, judged.by_class(), strict=True)
    ]


CONFUSED_PAIRS = ("true class", "taken for", "images")


def confused_pairs(class_names: Sequence[str], counts: Tensor, most: int = 10) -> list[tuple[str, str, int]]:
    """A row of ``CONFUSED_PAIRS`` for each of the most frequent mistakes.

    Args:
        class_names: The C classes.
        counts: int64 (C, C), images of the row's class that were taken for the column's.
        most: How many rows, at most.

    >>> import torch
    >>> confused_pairs(["cat", "dog"], torch.tensor([[5, 2], [3, 4]]))
    [('dog', 'cat', 3), ('cat', 'dog', 2)]
    """
    mistakes = counts - counts.diagonal().diag()
    order = mistakes.flatten().argsort(descending=True, stable=True)[:most].tolist()
    cells = [divmod(place, len(class_names)) for place in order]
    named = [(class_names[true], class_names[said], int(mistakes[true, said])) for true, said in cells]
    return [row for row in named if row[2]]
