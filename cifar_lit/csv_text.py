"""Tables as CSV."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
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


def read_csv(file: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file by column, without the apostrophes of ``csv_text``.

    Raises:
        OSError, ValueError, csv.Error: If it cannot be read.
    """
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as opened:
        rows = list(csv.DictReader(opened))
    return [{str(name): _unescape(cell or "") for name, cell in row.items() if isinstance(cell, str)} for row in rows]


def _unescape(cell: str) -> str:
    return cell[1:] if _escape(cell[1:]) == cell else cell


def _escape(cell: Any) -> Any:
    is_formula = isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{cell}" if is_formula and not re.fullmatch(r"[+-]\d+(\.\d+)?", cell) else cell
