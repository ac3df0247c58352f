"""The page that ``demo`` serves, and the browser that it opens, here a script that writes down the address."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.program import NO_CALLBACKS, Outcome

BROWSER = '#!/bin/sh\necho "$@" >> "$0.log"\n'


@pytest.mark.skipif(sys.platform == "win32", reason="the browser is a shell script")
@pytest.mark.parametrize("options", [[], ["--browser", "false"]], ids=" ".join)
def test_demo_prints_one_address_and_opens_it(
    options: list[str], fit: Callable[..., Path], program: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = fit("shown", *NO_CALLBACKS) / "checkpoints" / "best.ckpt"
    browser, log = Path("browser").absolute(), Path("browser.log").absolute()
    browser.write_text(BROWSER)
    browser.chmod(0o755)
    log.touch()
    monkeypatch.setenv("BROWSER", str(browser))
    printed = []

    def serve(command: Sequence[str], **settings: Any) -> SimpleNamespace:
        settings.pop("check")
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **settings
        ) as server:
            assert server.stdout is not None
            for line in server.stdout:
                printed.append(line)
                if "http" in line:
                    server.terminate()
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr("space.export.command.subprocess", SimpleNamespace(run=serve))
    outcome = program("demo", "--ckpt_path", checkpoint, *options)
    assert outcome.status == 0, outcome.err
    assert "http" not in outcome.out + outcome.err
    page = re.fullmatch(r"The page is at (http://127\.0\.0\.1:\d+/) \(Ctrl-C stops it\)\n", "".join(printed))
    assert page, printed
    assert log.read_text() == ("" if options else f"{page[1]}\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without a signal")
def test_a_terminated_demo_closes_its_page(
    fit: Callable[..., Path], program: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = fit("shown", *NO_CALLBACKS) / "checkpoints" / "best.ckpt"
    before = signal.getsignal(signal.SIGTERM)

    def terminate(command: Sequence[str], **settings: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)  # the real one kills the page's process when an exception is raised

    monkeypatch.setattr("space.export.command.subprocess", SimpleNamespace(run=terminate))
    try:
        assert program("demo", "--ckpt_path", checkpoint).status == 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)
