"""What came of a kind of harm."""

from dataclasses import dataclass

HEADER = ["harm", "tried", "withstood", "figures"]
_MOST_SHOWN = 20


@dataclass(frozen=True)
class Outcome:
    """How often harm was tried, and where it did some.

    what: The harm.
    tried: How often.
    failures: Where it did harm, each with what is needed to try it again.
    figures: What else was measured.
    """

    what: str
    tried: int
    failures: list[str]
    figures: str = ""

    def row(self) -> list[str]:
        """As a row of the table."""
        return [self.what, f"{self.tried:,}", f"{self.tried - len(self.failures):,}", self.figures]

    def report(self) -> list[str]:
        """The failures, a line each."""
        lines = [f"- {self.what}: {failure}" for failure in self.failures[:_MOST_SHOWN]]
        more = len(self.failures) - len(lines)
        return [*lines, f"- {self.what}: {more} more"] if more > 0 else lines
