"""Texts that come from elsewhere (names of classes, files), put into Markdown as they are, and tables."""

import re
from collections.abc import Iterable, Sequence

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
