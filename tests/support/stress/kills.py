"""Training that is killed at random moments and resumed, which must end bit-identical to an uninterrupted run."""

import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback

from cifar_lit.cli.commands import plugin_modules
from cifar_lit.import_allowlist import VARIABLE
from main import PLUGIN_PACKAGES, main
from tests.support.program import ROOT
from tests.support.stress.comparison import differences
from tests.support.stress.outcome import Outcome

_MAX_IN_A_ROW = 4  # kills of one run before it may finish
_BASE = [
    *("fit", "--config", str(ROOT / "configs" / "quickstart.yaml"), "--trainer.accelerator", "cpu"),
    *("--model.net", "TinyNet", "--model.net.dropout", "0.2", "--trainer.max_epochs", "3"),
    *("--trainer.log_every_n_steps", "2", "--last_checkpoint.every_n_steps", "3"),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
    *("--trainer.callbacks+", "tests.support.stress.kills.StageRecorder"),
]
_MIXED = ["--data.augment", "[RandomCrop, HorizontalFlip, Cutout]", "--data.mixup", "0.2", "--data.cutmix", "1"]
_PIPELINE = ["--data.albumentations", "[{HorizontalFlip: {p: 0.5}}, {RandomBrightnessContrast: {p: 1}}]"]
_EMA = ["--trainer.callbacks+", "{class_path: EMAWeightAveraging, init_args: {decay: 0.9}}"]
_TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
_OPTIONS = {
    "batched augmentation and mixup": _MIXED,
    "albumentations, two workers": [*_PIPELINE, "--data.num_workers", "2"],
    "averaged weights (EMA)": _EMA,
    "two processes (DDP)": _TWO,
}
KINDS = tuple(_OPTIONS)
_WEIGHTS = dict(zip(KINDS, (3, 3, 3, 1), strict=True))  # of the kills; two processes take longest to start
_PRELOADED = [
    *plugin_modules(PLUGIN_PACKAGES),
    "cifar_lit.cli.training_commands",
    "matplotlib.figure",
    "torch.utils.tensorboard",
    "__main__",
    __name__,
]


class StageRecorder(Callback):
    """Write the current stage of the run to a file, so that the stage that a kill hit is known."""

    file = Path("stage")

    def on_fit_start(self, *_: Any) -> None:
        """Record the preparation before the first step."""
        self.file.write_text("preparation")

    def on_train_batch_start(self, *_: Any) -> None:
        """Record the start of a step."""
        self.file.write_text("step")

    def on_validation_epoch_start(self, *_: Any) -> None:
        """Record the start of validation."""
        self.file.write_text("validation")

    def on_validation_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Record the drawing of pictures, which follows the last batch."""
        if batch_idx + 1 == sum(trainer.num_val_batches):
            self.file.write_text("pictures")

    def on_save_checkpoint(self, *_: Any) -> None:
        """Record the saving of a checkpoint."""
        self.file.write_text("checkpoint")


def kills(count: int, seed: int = 0, kinds: Sequence[str] = KINDS) -> Iterator[Outcome]:
    """Kill training repeatedly, and compare the resumed runs with uninterrupted ones.

    Args:
        count: Number of kills, divided among the kinds of training.
        seed: Seed of the moments.
        kinds: Kinds of training.
    """
    shares = {kind: _WEIGHTS[kind] / sum(_WEIGHTS[other] for other in kinds) for kind in kinds}
    with ThreadPoolExecutor(2) as workers:  # one per core
        yield from workers.map(
            lambda kind: _kill(kind, _OPTIONS[kind], max(1, round(count * shares[kind])), seed), kinds
        )


def _kill(kind: str, options: Sequence[str], count: int, seed: int) -> Outcome:
    chance = random.Random(f"{seed} {kind}")
    stages: Counter[str] = Counter()
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        uninterrupted = Path(folder, "uninterrupted")
        seconds = _run(uninterrupted, options)
        kills_done = runs = 0
        while kills_done < count:
            runs += 1
            resumed = Path(folder, f"run{runs}")
            moments = []
            for _ in range(min(_MAX_IN_A_ROW, count - kills_done)):
                moment = chance.uniform(0, seconds)
                moments.append(moment)
                if _run(resumed, options, kill_after=moment) is not None:
                    break  # it finished first
                kills_done += 1
                stages[(resumed / StageRecorder.file).read_text() or "between stages"] += 1
            try:
                _run(resumed, options)
                different = differences(_run_folder(uninterrupted), _run_folder(resumed))
            except (RuntimeError, OSError) as error:
                different = [str(error)]
            if different:
                failures.append(f"seed {seed}, run {runs}, kills after {moments}: {different}")
            shutil.rmtree(resumed)
    stages_hit = ", ".join(f"{stage} {times}" for stage, times in stages.most_common())
    name = f"bit-identical runs after SIGKILLs at random moments: {kind}"
    return Outcome(name, runs, failures, f"{kills_done} kills, by stage: {stages_hit}")


def _run(folder: Path, options: Sequence[str], kill_after: float | None = None) -> float | None:
    """Start or resume training, and return its seconds, or None if it was killed."""
    folder.mkdir(exist_ok=True)
    stage = folder / StageRecorder.file
    stage.unlink(missing_ok=True)
    # Forked from a process that has imported everything, since the imports take longer than this training
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    process = context.Process(target=_program, args=(folder, [*_BASE, *options, "--resume"]))
    process.start()
    while not stage.exists() and process.is_alive():
        time.sleep(0.005)
    start = time.perf_counter()
    process.join(kill_after)
    if process.exitcode is None:
        assert process.pid is not None
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        return None
    if process.exitcode:
        raise RuntimeError((folder / "output").read_text()[-2000:])
    return time.perf_counter() - start


def _program(folder: Path, arguments: list[str]) -> None:
    """Run the program as if started in a folder with these arguments; of several processes, this is the first."""
    os.setsid()
    os.chdir(folder)
    output = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.environ |= {"PYTHONPATH": str(ROOT), VARIABLE: "tests", "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    sys.argv = [str(ROOT / "main.py"), *arguments]  # Lightning runs this again for further processes
    sys.modules["__main__"].__spec__ = None
    sys.exit(main(arguments))


def _run_folder(folder: Path) -> Path:
    """Return the newest run folder: a run killed before its first checkpoint is restarted in another one."""
    return max(Path(folder, "runs").glob("*/version_*"), key=lambda run: int(run.name.removeprefix("version_")))
