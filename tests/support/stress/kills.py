"""Training that is killed at random moments, goes on, and has to end as if it had not been."""

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

_MOST_IN_A_ROW = 4  # kills of one run, before it is let go on to its end
_BASE = [
    *("fit", "--config", str(ROOT / "configs" / "quickstart.yaml"), "--trainer.accelerator", "cpu"),
    *("--model.net", "TinyNet", "--model.net.dropout", "0.2", "--trainer.max_epochs", "3"),
    *("--trainer.log_every_n_steps", "2", "--last_checkpoint.every_n_steps", "3"),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
    *("--trainer.callbacks+", "tests.support.stress.kills.Moment"),
]
_MIXED = ["--data.augment", "[RandomCrop, HorizontalFlip, Cutout]", "--data.mixup", "0.2", "--data.cutmix", "1"]
_PIPELINE = ["--data.albumentations", "[{HorizontalFlip: {p: 0.5}}, {RandomBrightnessContrast: {p: 1}}]"]
_EMA = ["--trainer.callbacks+", "{class_path: EMAWeightAveraging, init_args: {decay: 0.9}}"]
_TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
_OPTIONS = {
    "whole batches, mixed": _MIXED,
    "albumentations, two workers": [*_PIPELINE, "--data.num_workers", "2"],
    "averaged weights (EMA)": _EMA,
    "two processes (DDP)": _TWO,
}
KINDS = tuple(_OPTIONS)
_SHARES = dict(zip(KINDS, (3, 3, 3, 1), strict=True))  # of the kills; two processes take longest to start
_PRELOADED = [
    *plugin_modules(PLUGIN_PACKAGES),
    "cifar_lit.cli.training_commands",
    "matplotlib.figure",
    "torch.utils.tensorboard",
    "__main__",
    __name__,
]


class Moment(Callback):
    """Write to a file what the run is doing, so that a kill can be described by what it hit."""

    file = Path("moment")

    def on_fit_start(self, *_: Any) -> None:
        """Before the first step."""
        self.file.write_text("preparation")

    def on_train_batch_start(self, *_: Any) -> None:
        """A step begins."""
        self.file.write_text("step")

    def on_validation_epoch_start(self, *_: Any) -> None:
        """Validation begins."""
        self.file.write_text("validation")

    def on_validation_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After the last batch, pictures are drawn."""
        if batch_idx + 1 == sum(trainer.num_val_batches):
            self.file.write_text("pictures")

    def on_save_checkpoint(self, *_: Any) -> None:
        """A checkpoint is written."""
        self.file.write_text("checkpoint")


def kills(count: int, seed: int = 0, kinds: Sequence[str] = KINDS) -> Iterator[Outcome]:
    """Kills training until so many kills are done, shared among ways to train.

    Args:
        count: Of the kills.
        seed: Of the moments.
        kinds: The ways to train.
    """
    shares = {kind: _SHARES[kind] / sum(_SHARES[one] for one in kinds) for kind in kinds}
    with ThreadPoolExecutor(2) as workers:  # a core each
        yield from workers.map(
            lambda kind: _kill(kind, _OPTIONS[kind], max(1, round(count * shares[kind])), seed), kinds
        )


def _kill(kind: str, options: Sequence[str], count: int, seed: int) -> Outcome:
    chance = random.Random(f"{seed} {kind}")
    hit: Counter[str] = Counter()
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, "whole")
        seconds = _run(whole, options)
        kills_done = runs = 0
        while kills_done < count:
            runs += 1
            place = Path(folder, f"run{runs}")
            moments = []
            for _ in range(min(_MOST_IN_A_ROW, count - kills_done)):
                moment = chance.uniform(0, seconds)
                moments.append(moment)
                if _run(place, options, kill_after=moment) is not None:
                    break  # it came to its end before
                kills_done += 1
                hit[(place / Moment.file).read_text() or "between two of these"] += 1
            try:
                _run(place, options)
                unequal = differences(_run_folder(whole), _run_folder(place))
            except (RuntimeError, OSError) as error:
                unequal = [str(error)]
            if unequal:
                failures.append(f"seed {seed}, run {runs}, kills after {moments}: {unequal}")
            shutil.rmtree(place)
    moments_hit = ", ".join(f"{moment} {times}" for moment, times in hit.most_common())
    what = f"runs equal to the bit after SIGKILLs at random moments: {kind}"
    return Outcome(what, runs, failures, f"{kills_done} kills, of which in {moments_hit}")


def _run(place: Path, options: Sequence[str], kill_after: float | None = None) -> float | None:
    """Starts the program, or goes on; gives the seconds of training, or None if it was killed in that time."""
    place.mkdir(exist_ok=True)
    moment = place / Moment.file
    moment.unlink(missing_ok=True)
    # From a process that has imported everything, which takes longer than such a training
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    process = context.Process(target=_program, args=(place, [*_BASE, *options, "--resume"]))
    process.start()
    while not moment.exists() and process.is_alive():
        time.sleep(0.005)
    start = time.perf_counter()
    process.join(kill_after)
    if process.exitcode is None:
        assert process.pid is not None
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        return None
    if process.exitcode:
        raise RuntimeError((place / "output").read_text()[-2000:])
    return time.perf_counter() - start


def _program(place: Path, arguments: list[str]) -> None:
    """The program, as if it had been started in a folder with these arguments; of several processes, the first."""
    os.setsid()
    os.chdir(place)
    output = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.environ |= {"PYTHONPATH": str(ROOT), VARIABLE: "tests", "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    sys.argv = [str(ROOT / "main.py"), *arguments]  # which Lightning starts again for further processes
    sys.modules["__main__"].__spec__ = None
    sys.exit(main(arguments))


def _run_folder(place: Path) -> Path:
    """The newest run's: one that was killed before its first checkpoint is restarted in another folder."""
    return max(Path(place, "runs").glob("*/version_*"), key=lambda folder: int(folder.name.removeprefix("version_")))
