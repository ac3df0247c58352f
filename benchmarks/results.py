"""What was measured, kept as JSON and shown as Markdown."""

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
_BUT_WRITTEN = ["--", ":/", ":!*.json", ":!*.jsonl", ":!*.md"]  # in this folder


@dataclass(frozen=True)
class Result:
    """A ratio that was measured side by side, round by round.

    name: What was measured; a later result of the same name takes its place.
    ratios: One of each round.
    goal: What was to be reached, in words.
    details: The figures behind the ratio, with their units.
    quick: Whether it is a quick look, with few and short rounds.
    machine, day, commit: Where, when and of what.
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
        """The ratio to quote."""
        return statistics.median(self.ratios)

    def row(self) -> list[str]:
        """As a row of the table."""
        spread = f"{min(self.ratios):.3g} to {max(self.ratios):.3g}, n={len(self.ratios)}"
        measured = f"{self.day}, {self.commit}, {self.machine}"
        return [self.name, f"**{self.median:.3g}**", spread, self.goal, self.details, measured]


HEADER = ["what", "ratio", "spread", "goal", "figures", "measured"]


def result(name: str, ratios: Sequence[float], goal: str, details: str, quick: bool) -> Result:
    """A result of this machine, day and commit."""
    rounded = [round(ratio, 4) for ratio in ratios]
    return Result(name, rounded, goal, details, quick, machine(), str(date.today()), commit())


def commit() -> str:
    """The commit that is measured, with a ``+`` where files differ from it, but for what measurements write."""
    outputs = [
        subprocess.run(["git", *words], cwd=FOLDER, capture_output=True, text=True, check=False).stdout.strip()
        for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "-uno", *_BUT_WRITTEN])
    ]
    return outputs[0] + "+" * bool(outputs[1])


def machine() -> str:
    """What this machine computes with."""
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


def keep(results: Sequence[Result]) -> None:
    """Adds results to those kept in JSON, and writes all of them as a table in Markdown."""
    kept = {one["name"]: one for one in json.loads(_JSON.read_text())} if _JSON.exists() else {}
    kept |= {one.name: asdict(one) for one in results}
    _JSON.write_text(json.dumps(list(kept.values()), indent=1, ensure_ascii=False) + "\n")
    put("ratios", table(HEADER, [Result(**one).row() for one in kept.values()], raw=True))


def put(place: str, text: str) -> None:
    """Write text to a place in RESULTS.md, between the comments of that name."""
    start, end = f"<!-- {place} -->", f"<!-- end of {place} -->"
    before, _, rest = _MARKDOWN.read_text().partition(start)
    _, _, after = rest.partition(end)
    _MARKDOWN.write_text("\n".join([before + start, text, end + after]))
