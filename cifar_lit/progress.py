"""A progress bar for long computations."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from rich.progress import track

T = TypeVar("T")


def with_progress(items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
    """Yield the items, with a progress bar if the output is a terminal; elsewhere rich would print an empty line.

    Args:
        items: The items.
        description: Text in front of the bar.
        total: Their number, if they have no length.
    """
    return track(items, description, total, transient=True, disable=not sys.stdout.isatty())
