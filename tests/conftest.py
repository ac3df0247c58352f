"""Shared fixtures: an isolated folder per test, main() in this process, short runs, and an exported Space."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from main import main
from tests.support.program import ROOT, TINY, Outcome
from tests.support.stress.configurations import log_to

# One thread, here and in subprocesses: for networks this small, more threads only wait for each other
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run each test in its own folder with its own cache, and without the seed of the previous test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in [name for name in os.environ if name.startswith("PL_")]:
        monkeypatch.delenv(name)
    yield
    for name in [name for name in os.environ if name.startswith("PL_")]:
        del os.environ[name]


@pytest.fixture
def program(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Return a function that runs main() with the given arguments and captures its output."""

    def run(*args: object) -> Outcome:
        capfd.readouterr()
        log_to(sys.stderr)
        try:
            status = main([str(arg) for arg in args])
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capfd.readouterr()
        return Outcome(status, out, err)

    return run


@pytest.fixture
def fit(program: Callable[..., Outcome]) -> Callable[..., Path]:
    """Return a function that trains the quickstart with TinyNet and returns the run's folder."""

    def run(name: str, *args: object) -> Path:
        config = ROOT / "configs" / "quickstart.yaml"
        outcome = program("fit", "--config", config, *TINY, "--trainer.logger.name", name, *args)
        assert outcome.status == 0, outcome.err
        return sorted(Path("runs", name).iterdir())[-1]

    return run


@pytest.fixture(scope="session")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a Space exported from a short quickstart run with TinyNet; the run is next to it."""
    folder = tmp_path_factory.mktemp("space")
    config = ROOT / "configs" / "quickstart.yaml"
    with contextlib.chdir(folder):
        assert main(["fit", "--config", str(config), *TINY, "--trainer.precision", "32-true"]) == 0
        assert main(["export", "--ckpt_path", "last", "--output", "my_space"]) == 0
    return folder / "my_space"
