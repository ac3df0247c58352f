"""The version of this program that trained a run, stored in the first line of its configuration."""

import subprocess
from pathlib import Path

_PREFIX = "# Trained by commit "


def commit_line() -> str:
    """Return a YAML comment with the git version of this program; empty outside a git repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        described = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{_PREFIX}{described.stdout.strip()}\n"


def commit_of(config: Path) -> str | None:
    """Return the version in the first line of a run's configuration; None if there is none."""
    if not config.is_file():
        return None
    with config.open(encoding="utf-8") as opened:
        first = opened.readline()
    return first.removeprefix(_PREFIX).strip() if first.startswith(_PREFIX) else None
