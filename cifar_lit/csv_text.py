"""Tables as CSV."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV, in which no cell is a formula.

    A spreadsheet runs a cell that starts with ``=``, ``+``, ``-`` or ``@``, which the name of a file or class may do:
    such texts, except numbers, get an apostrophe in front. Source: OWASP, "CSV Injection".

    >>> print(csv_text([["file", "class"], ["=cmd()", "-1"]]).replace("\\r", ""), end="")
    file,class
    '=cmd(),-1
    """
    text = io.StringIO()
    csv.writer(text).writerows([[_escape(cell) for cell in row] for row in rows])
    return text.getvalue()


def _escape(cell: Any) -> Any:
    is_formula = isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{cell}" if is_formula and not re.fullmatch(r"[+-]\d+(\.\d+)?", cell) else cell
