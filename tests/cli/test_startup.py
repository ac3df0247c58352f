"""Mistakes and help texts that are reported before torch is imported."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cifar_lit.cli.commands import COMMANDS
from cifar_lit.cli.option_help import OPTIONS
from tests.support.program import ROOT, TINY, Outcome

Program = Callable[..., Outcome]
ALIASES = "".join(f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcde", "bcdef", strict=True))

_REPORT_MODULES = """
import sys
from main import main
status = main(sys.argv[1:])
print("torch" in sys.modules, "lightning" in sys.modules, "jsonargparse" in sys.modules, status)
"""


@pytest.mark.parametrize(
    ("args", "status"),
    [
        ([], 0),
        (["--help"], 0),
        (["fit", "--help"], 0),
        (["train"], 2),
        (["reprot"], 2),
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


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (f"a: &a [{'x, ' * 10}]\n{ALIASES}", ", line \\d: a configuration may have at most 100,000 values"),
        ("model: " + "{a: " * 3000 + "1" + "}" * 3000, ", line \\d: a configuration may have at most 50 levels"),
        ("model: " + "[" * 3000 + "]" * 3000, ", line \\d: a configuration may have at most 50 levels"),
        ("model: &m {a: *m}", ": the value 'm' contains itself"),
        ("model: *unknown", " is not valid YAML: found undefined alias 'unknown'.*"),
    ],
    ids=["aliases", "mappings", "lists", "a cycle", "an unknown alias"],
)
def test_a_configuration_that_would_fill_the_memory_is_refused(content: str, reason: str, program: Program) -> None:
    Path("large.yaml").write_text(content)
    outcome = program("fit", "--config", "large.yaml")
    assert outcome.status == 2
    assert re.fullmatch(f"error: large.yaml{reason}\n", outcome.err)


@pytest.mark.parametrize("seconds", [0.0, 0.3, 1.0, 2.0, 4.0])
def test_ctrl_c_while_modules_are_imported_is_silent(seconds: float) -> None:
    config = str(ROOT / "configs" / "quickstart.yaml")
    command = [sys.executable, str(ROOT / "main.py"), "fit", "--config", config, *TINY]

    def accept() -> None:  # pytest may run in the background, where shells ignore SIGINT
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=accept
    ) as process:
        while "_ctypes" not in Path(f"/proc/{process.pid}/maps").read_text():  # Python itself needs time to start
            time.sleep(0.01)
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    stopped = ("Stopped\n", "attempting graceful shutdown ...\n")  # on a fast machine, training has begun
    assert (out, err) == ("", "") or err.endswith(stopped)


@pytest.mark.parametrize("args", [[], ["-h"], ["--help"], ["train"], ["reprot"]], ids=" ".join)
def test_every_command_is_listed_on_one_line(args: list[str], program: Program) -> None:
    outcome = program(*args)
    lines = [line for line in (outcome.out or outcome.err).splitlines() if line.startswith("  ")]
    assert [line.split(maxsplit=1) for line in lines] == [[name, known.summary] for name, known in COMMANDS.items()]
    assert max(map(len, lines)) <= 80


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
