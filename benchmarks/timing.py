"""Side-by-side timing of calls."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from callbacks.rendering.markdown import table


def side_by_side(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Time every call once per round, in milliseconds, so that slow phases of the machine affect all alike.

    Args:
        calls: Calls to time, by name; each is called once beforehand as a warm-up.
        rounds: Number of rounds.
    """
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1000 * (time.perf_counter() - start))
    return times


def summary(times: list[float]) -> str:
    """Return the median and quartiles as text.

    >>> summary([1.0, 2.0, 3.0, 4.0, 50.0])
    '3.0 (1.5 to 27.0)'
    """
    low, middle, high = statistics.quantiles(times)
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table."""
    print(table(header, rows, raw=True))
