"""Markdown: escaped text and tables."""

import re
from collections.abc import Iterable, Sequence


def escape(text: object) -> str:
    r"""Return text that Markdown renders literally, on one line.

    >>> print(escape("a_b <img> | c"))
    a\_b &lt;img&gt; \| c
    """
    plain = str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~$!])", r"\\\1", " ".join(plain.split()))


_NUMBER = re.compile(r"[-+]?[\d.,]+(e[-+]?\d+)?%?( \(.*\)| ± .*)?")


def table(header: Sequence[str], rows: Iterable[Sequence[object]], raw: bool = False) -> str:
    """Return a Markdown table, with columns of numbers aligned to the right.

    Args:
        header: The column headings.
        rows: The cells, row by row.
        raw: Whether the cells already are Markdown; by default they are escaped.

    >>> print(table(["class", "images"], [["cat", 3]]))
    | class | images |
    | --- | ---: |
    | cat | 3 |
    """
    texts = [[str(cell) for cell in row] for row in rows]
    columns = [list(filter(None, column)) for column in zip(*texts, strict=True)] or [[]] * len(header)
    rules = ["---:" if column and all(map(_NUMBER.fullmatch, column)) else "---" for column in columns]
    cells = [row if raw else list(map(escape, row)) for row in texts]
    return "\n".join(f"| {' | '.join(line)} |" for line in [list(header), rules, *cells])


def class_scores_table(scores: Iterable[tuple[int, float, float, float]], class_names: Sequence[str]) -> str:
    """Return a table of each class's number of images, precision, recall and F1 score.

    >>> print(class_scores_table([(4, 0.5, 0.25, 1 / 3), (0, 0.0, 0.0, 0.0)], ["cat", "dog"]))
    | class | images | precision | recall | F1 |
    | --- | ---: | ---: | ---: | ---: |
    | cat | 4 | 0.500 | 0.250 | 0.333 |
    | dog | 0 |  |  |  |
    """
    rows = [
        [name, f"{images:,}", *(f"{value:.3f}" if images else "" for value in values)]
        for name, (images, *values) in zip(class_names, scores, strict=True)
    ]
    return table(["class", "images", "precision", "recall", "F1"], rows)


def confused_pairs_table(pairs: Iterable[tuple[int, int, int, float]], class_names: Sequence[str]) -> str:
    """Return a table of the classes that are confused most often.

    Args:
        pairs: True class, predicted class, number of images, and their share of the true class's images.
        class_names: The names of the classes.

    >>> print(confused_pairs_table([(0, 1, 3, 0.3)], ["cat", "dog"]))
    | true class | predicted class | images | share of the class |
    | --- | --- | ---: | ---: |
    | cat | dog | 3 | 30.0% |
    """
    rows = [
        [class_names[true], class_names[predicted], f"{images:,}", f"{share:.1%}"]
        for true, predicted, images, share in pairs
    ]
    return table(["true class", "predicted class", "images", "share of the class"], rows)


def shade(percentage: float) -> str:
    """Return a style that gives a low percentage a darker background, on which the text stays legible.

    >>> shade(90)
    'background:color-mix(in srgb, #d55e00 7%, transparent)'
    """
    return f"background:color-mix(in srgb, #d55e00 {0.7 * (100 - percentage):.0f}%, transparent)"
