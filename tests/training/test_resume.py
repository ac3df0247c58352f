"""Killed and stopped runs resume exactly, bit for bit."""

import contextlib
import errno
import importlib
import os
import shutil
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch.utils.tensorboard.writer import FileWriter

from cifar_lit.cli.commands import plugin_modules
from main import PLUGIN_PACKAGES, main
from tests.support.images import write_class_folders
from tests.support.program import ROOT, TINY, Outcome
from tests.support.stress.comparison import differences, same
from tests.support.stress.configurations import log_to
from tests.support.stress.kills import kills

Program = Callable[..., Outcome]
Uninterrupted = Callable[..., Path]
QUICKSTART = ["fit", "--config", str(ROOT / "configs" / "quickstart.yaml"), *TINY, "--trainer.max_epochs", "2"]
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


class Signals(Callback):
    """Send the process a signal, SIGKILL by default, once, at a given moment."""

    def __init__(self, moment: str, step: int, number: int = signal.SIGKILL, times: int = 1) -> None:
        self.moment, self.step, self.number, self.times = moment, step, number, times

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_") and name == object.__getattribute__(self, "moment"):
            return self._send
        return object.__getattribute__(self, name)

    def _send(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step and not trainer.sanity_checking and not Path("sent").exists():
            Path("sent").touch()
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


def run(*args: object) -> int:
    """Run main() in a child process; return its exit status, negative if a signal ended it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # this process has threads, which the child does not need
        process = os.fork()
    if process == 0:
        status = 70  # an unhandled exception
        log_to(sys.stderr)
        try:
            status = main([str(arg) for arg in args])
        except SystemExit as end:
            status = int(end.code or 0)
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """Import what a run needs once, so that the child processes do not have to."""
    for module in (
        *plugin_modules(PLUGIN_PACKAGES),
        "cifar_lit.cli.training_commands",
        "matplotlib.figure",
        "torch.utils.tensorboard",
    ):
        importlib.import_module(module)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    """Return a function that trains without interruption, once per set of options, and returns the run's folder."""
    runs: dict[tuple[str, ...], Path] = {}

    def train(*options: str) -> Path:
        if options not in runs:
            runs[options] = tmp_path_factory.mktemp("uninterrupted")
            with contextlib.chdir(runs[options]):
                assert run(*QUICKSTART, *SHORT, *options) == 0
        return runs[options] / "runs" / "quickstart" / "version_0"

    return train


@pytest.fixture(autouse=True)
def _ctrl_c() -> Iterator[None]:
    """Handle Ctrl-C as in a terminal, even if the tests run in the background, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def signal_args(moment: str, step: int, number: int = signal.SIGKILL, times: int = 1) -> list[str]:
    arguments = f"{{moment: {moment}, step: {step}, number: {int(number)}, times: {times}}}"
    callback = f"{{class_path: tests.training.test_resume.Signals, init_args: {arguments}}}"
    return ["--trainer.callbacks+", callback, "--allow_import", "tests"]


WORKERS = [*PER_SAMPLE, "--data.num_workers", "2"]


@pytest.mark.parametrize(  # ``python -m benchmarks reliability`` kills at a hundred random moments
    ("options", "moment", "step"),
    [
        (MIXED, "on_train_batch_start", 3),
        (MIXED, "on_train_batch_end", 7),
        (MIXED, "on_validation_batch_start", 5),
        (MIXED, "on_validation_end", 5),
        (MIXED, "on_train_epoch_end", 5),
        (MIXED, "on_train_epoch_start", 5),
        (WORKERS, "on_train_batch_start", 3),
        (WORKERS, "on_train_epoch_start", 5),
        (EMA, "on_train_batch_end", 7),
        (EMA, "on_train_epoch_end", 5),
    ],
    ids=lambda value: {id(MIXED): "batched", id(WORKERS): "workers", id(EMA): "ema"}.get(id(value)),
)
def test_a_killed_run_resumes_exactly(moment: str, step: int, options: list[str], uninterrupted: Uninterrupted) -> None:
    command = [*QUICKSTART, *SHORT, *options, *signal_args(moment, step)]
    assert run(*command, "--trainer.logger.name", "killed", "--resume") == -signal.SIGKILL
    assert run(*command, "--trainer.logger.name", "killed", "--resume") == 0  # it is killed only once
    assert [folder.name for folder in Path("runs/killed").iterdir()] == ["version_0"]
    assert differences(Path("runs/killed/version_0"), uninterrupted(*options)) == []


PLATEAU = [
    "--model.lr_scheduler",
    "{class_path: lightning.pytorch.cli.ReduceLROnPlateau, init_args: {monitor: val/loss, patience: 0}}",
]
PLATEAU += ["--model.optimizer.lr", "0.1"]
STOPPING = "{class_path: EarlyStopping, init_args: {monitor: val/loss, mode: max, patience: 1}}"  # soon: the loss falls


@pytest.mark.parametrize(
    ("options", "moment", "step"),
    [
        (PLATEAU, "on_train_batch_start", 4),
        (PLATEAU, "on_train_epoch_end", 5),
        (["--trainer.accumulate_grad_batches", "2"], "on_train_batch_start", 3),
        (["--trainer.check_val_every_n_epoch", "2"], "on_train_epoch_end", 5),
        (["--trainer.val_check_interval", "2"], "on_train_batch_start", 4),
        (["--trainer.max_steps", "8"], "on_train_epoch_end", 5),
        (["--trainer.callbacks+", STOPPING], "on_train_epoch_end", 10),
    ],
    ids=[
        *("plateau, within an epoch", "plateau, at its end", "accumulation", "every second epoch", "within epochs"),
        *("steps", "early stopping"),
    ],
)
def test_a_killed_run_resumes_exactly_with_other_schedules_and_intervals(
    moment: str, step: int, options: list[str], uninterrupted: Uninterrupted
) -> None:
    command = [*QUICKSTART, *SHORT, *options, *signal_args(moment, step)]
    assert run(*command, "--trainer.logger.name", "killed", "--resume") == -signal.SIGKILL
    assert run(*command, "--trainer.logger.name", "killed", "--resume") == 0
    assert differences(Path("runs/killed/version_0"), uninterrupted(*options)) == []


def test_a_run_that_is_killed_repeatedly_resumes(uninterrupted: Uninterrupted) -> None:
    command = [*QUICKSTART, *SHORT, *MIXED]
    for step in (1, 3, 3, 8):  # the third time, before it has made any progress
        Path("sent").unlink(missing_ok=True)
        killed = [*command, *signal_args("on_train_batch_start", step), "--trainer.logger.name", "killed", "--resume"]
        assert run(*killed) == -signal.SIGKILL
    assert run(*command, "--trainer.logger.name", "killed", "--resume") == 0
    assert differences(Path("runs/killed/version_0"), uninterrupted(*MIXED)) == []


def test_two_killed_processes_resume_exactly() -> None:
    [outcome] = kills(1, kinds=["two processes (DDP)"])
    assert not outcome.failures, outcome.report()


def test_a_full_disk_loses_the_curves_but_not_the_run(
    program: Program, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(FileWriter, "add_event", full)
    warnings.simplefilter("always")
    outcome = program(*QUICKSTART, *SHORT)
    assert outcome.status == 0, outcome.err
    warnings_shown = [str(warning.message) for warning in recwarn if "cannot be written" in str(warning.message)]
    assert len(warnings_shown) == 1
    assert "No space left" in warnings_shown[0]
    assert Path("runs/quickstart/version_0/checkpoints/last.ckpt").is_file()


class DeletesItsRun(Callback):
    """Delete the run's folder in the middle of the second epoch."""

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == 7:
            shutil.rmtree(trainer.log_dir)


def test_a_deleted_folder_is_written_again_and_the_run_can_be_used(program: Program) -> None:
    delete = ["--trainer.callbacks+", "tests.training.test_resume.DeletesItsRun", "--allow_import", "tests"]
    warnings.simplefilter("always")
    outcome = program(*QUICKSTART, "--trainer.limit_train_batches", 5, *delete)
    assert outcome.status == 0, outcome.err
    assert "Traceback" not in outcome.err
    outcome = program("test", "--ckpt_path", "last", "--allow_import", "tests")
    assert outcome.status == 0, outcome.err
    assert [folder.name for folder in Path("runs/quickstart").iterdir()] == ["version_0"]


@pytest.mark.parametrize(
    ("moment", "step", "number"),
    [
        ("on_train_batch_start", 3, signal.SIGTERM),
        ("on_train_batch_end", 7, signal.SIGINT),
        ("on_train_batch_end", 5, signal.SIGTERM),  # the last step of an epoch
        ("on_validation_batch_start", 5, signal.SIGINT),
        ("on_validation_end", 5, signal.SIGTERM),
        ("on_train_epoch_end", 5, signal.SIGINT),
    ],
)
def test_a_stopped_run_is_saved_and_resumes_exactly(
    moment: str, step: int, number: signal.Signals, capfd: pytest.CaptureFixture[str], uninterrupted: Uninterrupted
) -> None:
    rarely = ["--last_checkpoint.every_n_steps", "100"]
    command = [*QUICKSTART, *SHORT, *rarely, *MIXED, *signal_args(moment, step, number)]
    assert run(*command, "--trainer.logger.name", "stopped") == 128 + number
    printed = capfd.readouterr().err
    assert "Traceback" not in printed
    file = "runs/stopped/version_0/checkpoints/last.ckpt"
    assert f"Stopped by {number.name}. To resume: uv run main.py fit --ckpt_path {file} --allow_import tests" in printed
    reached = torch.load(file, weights_only=True)["global_step"]
    assert step - 1 <= reached <= step + 1
    assert run("fit", "--ckpt_path", file, "--allow_import", "tests") == 0
    assert differences(Path("runs/stopped/version_0"), uninterrupted(*MIXED)) == []


def test_a_second_ctrl_c_ends_the_program_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    command = [*QUICKSTART, *SHORT, *signal_args("on_train_batch_start", 3, signal.SIGINT, times=2)]
    assert run(*command) == -signal.SIGINT
    assert "Traceback" not in capfd.readouterr().err


def test_a_run_that_is_stopped_in_its_first_step_restarts_in_its_folder() -> None:
    command = [*QUICKSTART, "--data.batch_size", "2000"]  # one step per epoch
    command += signal_args("on_validation_batch_start", 1, signal.SIGTERM)
    assert run(*command, "--trainer.logger.name", "stopped", "--resume") == 143
    assert run(*command, "--trainer.logger.name", "stopped", "--resume") == 0
    assert run(*command, "--trainer.logger.name", "uninterrupted") == 0
    assert differences(Path("runs/stopped/version_0"), Path("runs/uninterrupted/version_0")) == []


def test_slurm_requeueing_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    scontrol = Path("bin/scontrol")
    scontrol.parent.mkdir()
    scontrol.write_text('#!/bin/sh\necho "$@" > requeued\n')
    scontrol.chmod(0o755)
    job = {"JOB_ID": "77", "JOB_NAME": "training", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    with monkeypatch.context() as slurm:
        slurm.setenv("PATH", f"{scontrol.parent.absolute()}:{os.environ['PATH']}")
        for name, value in job.items():
            slurm.setenv(f"SLURM_{name}", value)
        command = [*QUICKSTART, *SHORT, *MIXED, *signal_args("on_train_batch_end", 4, signal.SIGUSR1)]
        assert run(*command, "--trainer.logger.name", "first") == 0
        assert Path("requeued").read_text() == "requeue 77\n"
        assert torch.load("runs/hpc_ckpt_1.ckpt", weights_only=True)["global_step"] == 4
        assert run(*command, "--trainer.logger.name", "requeued") == 0  # resumes from that file automatically
    assert run(*command, "--trainer.logger.name", "uninterrupted") == 0
    states = [torch.load(f"runs/{name}/version_0/checkpoints/last.ckpt") for name in ("requeued", "uninterrupted")]
    assert same(states[0]["state_dict"], states[1]["state_dict"])


def test_resume_starts_a_run_if_there_is_none_but_last_is_refused(program: Program) -> None:
    started = program(*QUICKSTART, *SHORT, "--resume")
    assert started.status == 0, started.err
    assert "No run to resume in runs/quickstart/*; starting a new one" in started.out
    refused = program(*QUICKSTART, "--trainer.logger.name", "other", "--ckpt_path", "last")
    assert refused.status == 2
    assert "no last.ckpt in runs/other" in refused.err


@pytest.mark.parametrize(
    ("change", "made_with"),
    [
        (["--data.batch_size", "32"], "data.batch_size 64"),
        (["--seed_everything", "1"], "seed_everything 0"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_resuming_with_another_batch_size_or_seed_is_refused(
    change: list[str], made_with: str, capfd: pytest.CaptureFixture[str]
) -> None:
    command = [*QUICKSTART, *SHORT, *signal_args("on_train_batch_start", 3)]
    assert run(*command) == -signal.SIGKILL
    config = Path("runs/quickstart/version_0/config.yaml")
    before = config.read_bytes()
    assert run(*command, *change, "--resume") == 2
    assert config.read_bytes() == before
    printed = capfd.readouterr().err
    assert f"the checkpoint was made with {made_with}; use the same" in printed
    assert "Traceback" not in printed


def test_resuming_with_another_number_of_processes_is_refused() -> None:
    command = [*QUICKSTART, *SHORT, "--trainer.max_epochs", "1"]
    assert run(*command) == 0
    more = ["--trainer.max_epochs", "2", "--resume", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    refused = subprocess.run([sys.executable, ROOT / "main.py", *command, *more], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "the checkpoint was made with processes 1; use the same" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_resuming_with_changed_images_is_refused(program: Program) -> None:
    write_class_folders(Path("images"))
    data = ["--data", "ClassFolders", "--data.root", "images", "--data.batch_size", "4", "--trainer.max_epochs", "2"]
    each = "{class_path: ModelCheckpoint, init_args: {filename: 'e{epoch}', save_top_k: -1, mode: max}}"
    started = program(*QUICKSTART, *data, "--trainer.callbacks+", each)
    assert started.status == 0, started.err
    Path("images/train/cat/000.png").unlink()
    [first] = Path("runs").glob("*/*/checkpoints/eepoch=0.ckpt")
    with pytest.warns(UserWarning, match=r"the training images are not those of the checkpoint \(18 then, 17 now\)"):
        program(*QUICKSTART, *data, "--ckpt_path", first)
