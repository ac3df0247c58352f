"""What the program shows in a terminal, and what it writes to a file instead."""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.program import ROOT, TINY

# Announces at once that libraries are being loaded: on a fast machine, that might take less than a second
PROGRAM = """
import sys, threading

class AtOnce(threading.Timer):
    def start(self):
        self.function(*self.args, **self.kwargs)

threading.Timer = AtOnce
from main import main
sys.exit(main())
"""
ANNOUNCEMENT = "Loading PyTorch and Lightning ..."
FIT = ["fit", "--config", ROOT / "configs" / "quickstart.yaml", *TINY, "--trainer.enable_progress_bar", "true"]
CONTROL_SEQUENCE = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")

needs_terminal = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")


def command(*args: object) -> list[str]:
    return [sys.executable, "-c", PROGRAM, *map(str, args)]


def environment() -> dict[str, str]:
    """Return the environment without what changes the colors, the width or the progress bars."""
    changing = re.compile("COLUMNS|LINES|NO_COLOR|FORCE_COLOR|TTY_.*|TQDM_.*")
    kept = {name: value for name, value in os.environ.items() if not changing.fullmatch(name)}
    return kept | {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}


def shown_in_terminal(folder: Path, *args: object, columns: int = 80) -> str:
    """Run the program in a terminal; return what it writes there, with control characters."""
    import pty  # neither exists on Windows
    import termios

    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, columns))
    written = b""
    with subprocess.Popen(command(*args), stdin=end, stdout=end, stderr=end, cwd=folder, env=environment()) as process:
        os.close(end)
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while read := os.read(terminal, 65536):
                written += read
    os.close(terminal)
    text = written.decode()
    assert process.returncode == 0, text
    return text


@pytest.fixture(scope="module")
def fit_in_terminal(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what training shows in a terminal."""
    return shown_in_terminal(tmp_path_factory.mktemp("terminal"), *FIT, "--trainer.max_epochs", 2)


@needs_terminal
def test_fit_says_in_a_terminal_that_it_loads_libraries(fit_in_terminal: str) -> None:
    assert fit_in_terminal.startswith(f"{ANNOUNCEMENT}\r\n")
    assert fit_in_terminal.count(ANNOUNCEMENT) == 1


@needs_terminal
def test_other_commands_say_in_a_terminal_that_they_load_libraries(tmp_path: Path) -> None:
    text = shown_in_terminal(tmp_path, "predict", "--help")
    assert text.startswith(f"{ANNOUNCEMENT}\r\n")
    assert "\nusage: main.py predict " in text


@needs_terminal
def test_fit_shows_a_bar_and_a_line_for_each_epoch_in_a_terminal(fit_in_terminal: str) -> None:
    lines = re.split(r"[\r\n]+", CONTROL_SEQUENCE.sub("", fit_in_terminal))
    bars = [line.rstrip() for line in lines if line.startswith("Epoch ")]
    assert {line[:9] for line in bars} == {"Epoch 1/2", "Epoch 2/2"}
    assert re.fullmatch(r"Epoch 2/2 +━+ 17/17 .* loss: \d\.\d{3} val: \d+\.\d%", bars[-1])
    assert not [line for line in bars if line.startswith("Epoch 1/2") and "17/17" not in line and "val:" in line]
    assert [line[:9] for line in lines if line.startswith("epoch ")] == ["epoch 1/2", "epoch 2/2"]
    assert [line for line in lines if line.startswith("Drawing ")]


@needs_terminal
def test_progress_fits_on_one_line_of_a_narrow_terminal(tmp_path: Path) -> None:
    text = shown_in_terminal(tmp_path, *FIT, columns=60)
    bars = [line for line in re.split(r"[\r\n]+", CONTROL_SEQUENCE.sub("", text)) if line.startswith("Epoch ")]
    assert re.fullmatch(r"Epoch 1/1 +17/17 .* loss: \d\.\d{3} val: \d+\.\d%", bars[-1].rstrip())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends lines with a control character")
def test_redirected_output_is_plain_lines(tmp_path: Path) -> None:
    ended = subprocess.run(
        command(*FIT, "--lr_find", "true"), cwd=tmp_path, env=environment(), capture_output=True, check=False
    )
    out, err = ended.stdout.decode(), ended.stderr.decode()  # subprocess would turn \r into \n
    assert ended.returncode == 0, err
    assert "Suggested learning rate: " in err
    assert re.search(r"^epoch 1/1  train .* img/s  left 0:00$", out, re.MULTILINE)
    assert ANNOUNCEMENT not in out + err
    assert [line for line in (out + err).split("\n") if not line.isprintable()] == []
