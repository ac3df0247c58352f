"""Texts that come from elsewhere (names of classes, files), put into Markdown as they are."""

import re
from collections.abc import Iterable, Sequence


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
