"""How far a long computation is, told to a person who waits for it."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from rich.progress import track

_One = TypeVar("_One")


def with_progress(parts: Iterable[_One], what: str, total: int) -> Iterable[_One]:
    """The parts, one after the other, with a bar in a terminal that says how many are done.

    Args:
        parts: Of the work.
        what: Is being done.
        total: How many parts there are.
    """
    return track(parts, what, total, transient=True, disable=not sys.stdout.isatty())
