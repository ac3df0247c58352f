"""Outcome of a stress test."""

from dataclasses import dataclass

HEADER = ["stress test", "tried", "passed", "figures"]
_MAX_SHOWN = 20


@dataclass(frozen=True)
class Outcome:
    """Outcome of a stress test.

    name: What is tested.
    tried: Number of cases.
    failures: The cases that failed, each with what is needed to reproduce it.
    figures: Further measurements, as text.
    """

    name: str
    tried: int
    failures: list[str]
    figures: str = ""

    def row(self) -> list[str]:
        """Return the cells of a table row."""
        return [self.name, f"{self.tried:,}", f"{self.tried - len(self.failures):,}", self.figures]

    def report(self) -> list[str]:
        """Return the failures as list items, one per line."""
        lines = [f"- {self.name}: {failure}" for failure in self.failures[:_MAX_SHOWN]]
        more = len(self.failures) - len(lines)
        return [*lines, f"- {self.name}: {more} more"] if more > 0 else lines
