"""Benchmark results, stored as JSON and shown as Markdown."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import torch

from callbacks.rendering.markdown import table

FOLDER = Path(__file__).parent
_JSON, _MARKDOWN = FOLDER / "results.json", FOLDER / "RESULTS.md"
_EXCEPT_RESULTS = ["--", ":/", ":!*.json", ":!*.jsonl", ":!*.md"]  # the files in this folder


@dataclass(frozen=True)
class Result:
    """A ratio measured side by side in several rounds.

    name: What is measured; a new result replaces the one of the same name.
    ratios: One per round.
    goal: The target, as text.
    details: The figures behind the ratio, with units.
    quick: Whether the measurement was shortened to a few short rounds.
    machine, day, commit: Where, when and at which commit it was measured.
    """

    name: str
    ratios: list[float]
    goal: str
    details: str
    quick: bool
    machine: str
    day: str
    commit: str

    @property
    def median(self) -> float:
        """The median ratio, which is the one to quote."""
        return statistics.median(self.ratios)

    def row(self) -> list[str]:
        """Return the cells of a table row."""
        spread = f"{min(self.ratios):.3g} to {max(self.ratios):.3g}, n={len(self.ratios)}"
        measured = f"{self.day}, {self.commit}, {self.machine}"
        return [self.name, f"**{self.median:.3g}**", spread, self.goal, self.details, measured]


HEADER = ["what", "ratio", "spread", "goal", "figures", "measured"]


def result(name: str, ratios: Sequence[float], goal: str, details: str, quick: bool) -> Result:
    """Return a result for this machine, day and commit."""
    rounded = [round(ratio, 4) for ratio in ratios]
    return Result(name, rounded, goal, details, quick, machine(), str(date.today()), commit())


def commit() -> str:
    """Return the current commit, with a ``+`` if tracked files other than the results differ from it."""
    outputs = [
        subprocess.run(["git", *words], cwd=FOLDER, capture_output=True, text=True, check=False).stdout.strip()
        for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "-uno", *_EXCEPT_RESULTS])
    ]
    return outputs[0] + "+" * bool(outputs[1])


def machine() -> str:
    """Return a description of this machine's GPU, CPU and bfloat16 support."""
    features = torch.cpu.get_capabilities()
    bfloat16 = "with" if features.get("avx512_bf16") or features.get("amx_bf16") else "without"
    accelerator = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    return f"{accelerator}{os.cpu_count()} cores {_processor()}, {bfloat16} bfloat16"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    families = [line.partition(":")[2].strip() for line in lines if line.startswith(("cpu family", "model\t"))]
    return f"{names[0]} (family {families[0]}, model {families[1]})" if names else platform.machine()


def save(results: Sequence[Result]) -> None:
    """Add results to results.json, and write all results to the table in RESULTS.md."""
    stored = {entry["name"]: entry for entry in json.loads(_JSON.read_text())} if _JSON.exists() else {}
    stored |= {entry.name: asdict(entry) for entry in results}
    _JSON.write_text(json.dumps(list(stored.values()), indent=1, ensure_ascii=False) + "\n")
    replace_section("ratios", table(HEADER, [Result(**entry).row() for entry in stored.values()], raw=True))


def replace_section(name: str, text: str) -> None:
    """Replace the section of RESULTS.md between the comments of that name."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = _MARKDOWN.read_text().partition(start)
    _, _, after = rest.partition(end)
    _MARKDOWN.write_text("\n".join([before + start, text, end + after]))
