"""What the tests share: the program run in this process, and small images in class folders."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.harm.configurations import log_to
from main import main

# One thread, here and in the programs that tests start: for networks this small, several only wait for each other
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).parents[1]
# Fast settings for a run of which only the outcome matters
QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
TINY = ["--model.net", "TinyNet", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", *QUIET]


@dataclass
class Outcome:
    """How a run of the program ended."""

    status: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs each test in a folder of its own, with a cache of its own and no seed from the test before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in [name for name in os.environ if name.startswith("PL_")]:
        monkeypatch.delenv(name)
    yield
    for name in [name for name in os.environ if name.startswith("PL_")]:
        del os.environ[name]


@pytest.fixture
def program(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs the real main() with these arguments."""

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
    """Trains the quickstart with a tiny network; gives the run's folder."""

    def run(name: str, *args: object) -> Path:
        config = ROOT / "configs" / "quickstart.yaml"
        outcome = program("fit", "--config", config, *TINY, "--trainer.logger.name", name, *args)
        assert outcome.status == 0, outcome.err
        return sorted(Path("runs", name).iterdir())[-1]

    return run


def write_class_folders(
    root: Path,
    classes: tuple[str, ...] = ("cat", "dog"),
    train: int = 10,
    test: int = 4,
    size: tuple[int, int] = (12, 12),
    suffix: str = "png",
) -> Path:
    """Writes images to ``root/train/<class>/`` and ``root/test/<class>/``, a colour for each class plus noise."""
    random = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for label, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 60, (*size, 3), dtype=np.uint8)
                pixels[..., label % 3] += 150
                Image.fromarray(pixels).save(folder / f"{number:03}.{suffix}")
    return root


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    """The weights in a run's checkpoint."""
    checkpoint = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    state: dict[str, torch.Tensor] = checkpoint["state_dict"]
    return state


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of weights are equal to the bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="session")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Space exported from a short run of the quickstart with a tiny network; its run is beside it."""
    folder = tmp_path_factory.mktemp("space")
    config = ROOT / "configs" / "quickstart.yaml"
    with contextlib.chdir(folder):
        assert main(["fit", "--config", str(config), *TINY, "--trainer.precision", "32-true"]) == 0
        assert main(["export", "--ckpt_path", "last", "--output", "my_space"]) == 0
    return folder / "my_space"
