import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import ROOT, TINY, Outcome


def scalars(file: Path) -> dict[str, float]:
    accumulator = EventAccumulator(str(file)).Reload()
    return {tag: accumulator.Scalars(tag)[-1].value for tag in accumulator.Tags()["scalars"]}


def test_two_processes_judge_as_one_does(program: Callable[..., Outcome]) -> None:
    config = ROOT / "configs" / "quickstart.yaml"
    # 144 validation images do not divide into 2 processes' batches of 50
    two = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.batch_size", "50"]
    command = [sys.executable, ROOT / "main.py", "fit", "--config", config, *TINY, *two]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("Test it:") == 1  # rank 0 alone speaks
    [run] = Path("runs/quickstart").iterdir()
    [by_two] = (run / "val").iterdir()
    checkpoint = run / "checkpoints" / "last.ckpt"
    outcome = program("validate", "--ckpt_path", checkpoint, "--trainer.devices", 1, "--trainer.strategy", "auto")
    assert outcome.status == 0, outcome.err
    [by_one] = set((run / "val").iterdir()) - {by_two}
    one, two_processes = scalars(by_one), scalars(by_two)
    assert len(one) == 12  # loss, accuracy and that of ten classes
    assert two_processes == pytest.approx(one, abs=1e-6)
