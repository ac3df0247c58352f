import re
from collections.abc import Callable

import pytest

from callbacks.progress_bar import epoch_line
from tests.support.program import ROOT, TINY, Outcome

Program = Callable[..., Outcome]
SHOWN = ["--config", ROOT / "configs" / "quickstart.yaml", *TINY, "--trainer.enable_progress_bar", "true"]


def test_epochs_are_printed_as_lines_without_a_terminal(program: Program) -> None:
    outcome = program("fit", *SHOWN, "--trainer.max_epochs", 3, "--trainer.check_val_every_n_epoch", 2)
    assert outcome.status == 0, outcome.err
    lines = [line for line in outcome.out.splitlines() if line.startswith("epoch ")]
    pair = r"\d*\.\d{3} / \d+\.\d %"
    for number, line in enumerate(lines, 1):
        val = "" if number == 1 else f"  val {pair}"  # validated every 2 epochs and after the last
        assert re.fullmatch(rf"epoch {number}/3  train {pair}{val}  \d+ img/s  left \d+:\d\d", line), line
    assert len(lines) == 3
    assert lines[-1].endswith("left 0:00")
    assert "Epoch" not in outcome.out  # the rich bar's label
    accuracies = [
        100 * float(value) for value in re.findall(r"0\.\d{4}|1\.0000", re.findall(r"accuracy.*", outcome.out)[0])
    ]
    assert [float(value) for value in re.findall(r"(\S+) %", lines[-1])] == pytest.approx(accuracies[:2], abs=0.06)


def test_disabled_progress_bar_prints_no_lines(program: Program) -> None:
    outcome = program("fit", *SHOWN, "--trainer.enable_progress_bar", "false")
    assert outcome.status == 0, outcome.err
    assert not re.search(r"^epoch |img/s", outcome.out, re.MULTILINE)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (9.6, "0:10"), (75, "1:15"), (600, "10:00"), (3725, "1:02:05")]
)
def test_time_left_is_in_minutes_and_hours(seconds: float, text: str) -> None:
    line = epoch_line({}, epoch=1, max_epochs=-1, validated=False, images_per_second=9.7, seconds_left=seconds)
    assert line == f"epoch 1  10 img/s  left {text}"


def test_run_without_an_end_has_no_time_left() -> None:
    line = epoch_line({}, epoch=1, max_epochs=None, validated=True, images_per_second=1, seconds_left=float("inf"))
    assert line == "epoch 1  1 img/s"
