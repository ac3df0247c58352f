"""Runs that are killed or stopped, and go on: they end as if they had not been."""

import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback

from benchmarks.harm.comparison import differences
from main import main
from tests.conftest import ROOT, TINY, Outcome

Program = Callable[..., Outcome]
QUICKSTART = ["fit", "--config", str(ROOT / "configs" / "quickstart.yaml"), *TINY, "--trainer.max_epochs", "3"]
SHORT = [
    "--trainer.limit_train_batches",
    "5",
    "--trainer.log_every_n_steps",
    "2",
    "--last_checkpoint.every_n_steps",
    "2",
]
EMA = ["--trainer.callbacks+", "{class_path: EMAWeightAveraging, init_args: {decay: 0.9}}"]
PER_SAMPLE = ["--data.albumentations", "[{HorizontalFlip: {p: 0.5}}, {RandomBrightnessContrast: {p: 1}}]"]
MIXED = ["--data.augment", "[RandomCrop, Cutout]", "--data.mixup", "0.2", "--model.net.dropout", "0.3"]


class Dies(Callback):
    """Kills its process once, at a moment, as nothing in it can prevent."""

    def __init__(self, moment: str, step: int) -> None:
        self.moment, self.step = moment, step

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_") and name == object.__getattribute__(self, "moment"):
            return self._die
        return object.__getattribute__(self, name)

    def _die(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step and not trainer.sanity_checking and not Path("died").exists():
            Path("died").touch()
            os.kill(os.getpid(), signal.SIGKILL)


def run(*args: object) -> int:
    """The exit status of the program, in a process of its own; that of a signal is negative."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # this process has threads, which the other does without
        process = os.fork()
    if process == 0:
        try:
            status = main([str(arg) for arg in args])
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def dying(moment: str, step: int) -> list[str]:
    return [
        "--trainer.callbacks+",
        f"{{class_path: tests.test_resume.Dies, init_args: {{moment: {moment}, step: {step}}}}}",
    ]


@pytest.mark.parametrize(
    "options", [MIXED, [*PER_SAMPLE, "--data.num_workers", "2"], EMA], ids=["batched", "workers", "ema"]
)
@pytest.mark.parametrize(
    ("moment", "step"),
    [
        ("on_train_batch_start", 3),
        ("on_train_batch_end", 7),
        ("on_validation_batch_start", 10),
        ("on_validation_end", 5),
        ("on_train_epoch_end", 10),
        ("on_train_epoch_start", 5),
    ],
)
def test_a_killed_run_goes_on_as_if_it_had_not_been(moment: str, step: int, options: list[str]) -> None:
    command = [*QUICKSTART, *SHORT, *options, *dying(moment, step)]
    assert run(*command, "--trainer.logger.name", "killed", "--resume") == -signal.SIGKILL
    assert run(*command, "--trainer.logger.name", "killed", "--resume") == 0  # it dies once only
    assert run(*command, "--trainer.logger.name", "whole") == 0
    assert [folder.name for folder in Path("runs/killed").iterdir()] == ["version_0"]
    assert differences(Path("runs/killed/version_0"), Path("runs/whole/version_0")) == []
