"""Mistakes and help texts that are reported before torch is imported."""

import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from cifar_lit.cli.option_help import OPTIONS
from tests.support.program import ROOT, Outcome

Program = Callable[..., Outcome]

_REPORT_MODULES = """
import sys
from main import main
status = main(sys.argv[1:])
print("torch" in sys.modules, "lightning" in sys.modules, "jsonargparse" in sys.modules, status)
"""


@pytest.mark.parametrize(
    ("args", "status"),
    [
        (["--help"], 0),
        (["fit", "--help"], 0),
        (["train"], 2),
        (["fit", "--config", "none.yaml"], 2),
        (["test", "--ckpt_path", "none.ckpt"], 2),
        (["demo"], 2),
        (["predict", "none.png"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_help_and_mistakes_need_no_heavy_package(args: list[str], status: int) -> None:
    command = [sys.executable, "-c", _REPORT_MODULES, *args]
    ended = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == f"False False False {status}"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train"], "unknown command 'train'; did you mean 'fit'?"),
        (["trian"], "unknown command 'trian'; did you mean 'fit'?"),
        (["reprot"], "unknown command 'reprot'; did you mean 'report'?"),
        (["demo"], "no best.ckpt in runs/*/*/checkpoints; name a file, or train a network first: main.py fit"),
        (["test"], "no best.ckpt in runs/*/*/checkpoints"),
        (["predict", "none.png", "--ckpt_path", "last"], "no last.ckpt in runs/*/*/checkpoints"),
        (["export", "--output", "o", "--ckpt_path", "none.ckpt"], "no such file: none.ckpt"),
    ],
)
def test_mistakes_are_one_line_with_a_hint(args: list[str], message: str, program: Program) -> None:
    outcome = program(*args)
    assert outcome.status == 2
    *_, last = outcome.err.splitlines()
    assert last.startswith("error: ")
    assert message in last


def test_an_unknown_command_lists_all_commands(program: Program) -> None:
    outcome = program("train")
    for name in ("fit", "validate", "test", "lr_find", "predict", "demo", "export", "report", "schema"):
        assert re.search(rf"^  {name} +\w", outcome.err, re.MULTILINE), name


_CLASSES = {"--data.help": "ClassFolders", "--trainer.logger.help": "RunLogger"}


@pytest.mark.parametrize("command", OPTIONS)
def test_help_lists_existing_options_on_one_screen(command: str, program: Program) -> None:
    short, full = program(command, "--help"), program(command, "--help_all")
    classes = [program("fit", option, name) for option, name in _CLASSES.items()]
    assert {outcome.status for outcome in (short, full, *classes)} == {0}
    assert len(short.out.splitlines()) <= 45
    assert max(map(len, short.out.splitlines())) <= 120
    known = set(re.findall(r"--[\w.]+", full.out + "".join(outcome.out for outcome in classes)))
    known |= {"--allow_import", "--help_all", "--model.net.help"}
    assert set(re.findall(r"--[\w.]+", short.out)) <= known
