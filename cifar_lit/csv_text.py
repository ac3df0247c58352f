"""Tables as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV, in which no cell is a formula.

    A spreadsheet runs a cell that starts with ``=``, ``+``, ``-`` or ``@``, which the name of a file or class may do:
    such texts get an apostrophe in front. Source: OWASP, "CSV Injection".

    >>> print(csv_text([["file", "loss"], ["=cmd()", -0.5]]).replace("\\r", ""), end="")
    file,loss
    '=cmd(),-0.5
    """
    text = io.StringIO()
    csv.writer(text).writerows([[_escape(cell) for cell in row] for row in rows])
    return text.getvalue()


def _escape(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
