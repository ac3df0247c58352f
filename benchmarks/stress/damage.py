"""Checkpoints with a flipped bit, or cut short: each has to be noticed, and the newest whole one taken."""

import contextlib
import io
import random
import shutil
import tempfile
from pathlib import Path

from benchmarks.variants import ROOT, run_python
from cifar_lit.errors import InputError
from cifar_lit.training.checkpointing.checkpoint_files import find_checkpoint
from tests.support.stress.outcome import Outcome

_STARTS = 4  # real starts of the program, of each kind of damage


def damaged_checkpoints(count: int, seed: int = 0) -> Outcome:
    """Harms ``last.ckpt`` of a run so often, and has the program find the checkpoint to go on from."""
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        options = ["--config", str(ROOT / "configs" / "quickstart.yaml"), "--model.net", "TinyNet"]
        options += ["--trainer.max_epochs", "2", "--trainer.logger.save_dir", folder, "--trainer.accelerator", "cpu"]
        run_python([str(ROOT / "main.py"), "fit", *options])
        last = Path(folder, "quickstart", "version_0", "checkpoints", "last.ckpt")
        whole, previous = last.read_bytes(), str(last.with_name("previous.ckpt"))
        for number in range(count):
            chance = random.Random(f"{seed} {number}")
            last.write_bytes(_harmed(whole, chance, number % 2 == 0))
            if problem := _problem(last, previous, f"{folder}/quickstart/*"):
                failures.append(f"seed {seed}, case {number}: {problem}")
        for number in range(min(_STARTS, count)):
            last.write_bytes(_harmed(whole, random.Random(f"{seed} {number}"), number % 2 == 0))
            printed = run_python([str(ROOT / "main.py"), "fit", *options, "--ckpt_path", "last"], errors=True)
            if printed.count("is used instead") != 1:
                failures.append(f"seed {seed}, start {number}: {printed[-300:]}")
            shutil.rmtree(last.parents[1] / "val", ignore_errors=True)
    return Outcome("flipped bits and cuts of last.ckpt: the newest whole one is taken", count, failures)


def _harmed(whole: bytes, chance: random.Random, cut: bool) -> bytes:
    place = chance.randrange(len(whole))
    if cut:
        return whole[:place]
    content = bytearray(whole)
    content[place] ^= 1 << chance.randrange(8)
    return bytes(content)


def _problem(last: Path, previous: str, runs: str) -> str | None:
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        try:
            taken = find_checkpoint("last", runs).file
        except InputError as error:
            return f"refused: {error}"
    if str(taken) != previous:
        return f"{taken} was taken"
    message = printed.getvalue()
    return None if message.count("\n") == 1 and str(last) in message else f"printed {message!r}"
