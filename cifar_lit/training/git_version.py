"""Which version of this program trained a run."""

import subprocess
from pathlib import Path

_HEAD = "# Trained by commit "


def commit_line() -> str:
    """A comment that names the version; empty where this program is not in a git repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        told = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{_HEAD}{told.stdout.strip()}\n"


def commit_of(config: Path) -> str | None:
    """The version that the first line of a run's configuration names; None if it names none."""
    if not config.is_file():
        return None
    with config.open(encoding="utf-8") as opened:
        first = opened.readline()
    return first.removeprefix(_HEAD).strip() if first.startswith(_HEAD) else None
