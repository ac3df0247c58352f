"""Checkpoints with a flipped bit or a cut: each must be detected, and the newest intact one used instead."""

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

_STARTS = 4  # real starts of the program, alternately with either kind of damage


def damaged_checkpoints(count: int, seed: int = 0) -> Outcome:
    """Damage a run's ``last.ckpt`` ``count`` times, and let the program find a checkpoint to resume from."""
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        options = ["--config", str(ROOT / "configs" / "quickstart.yaml"), "--model.net", "TinyNet"]
        options += ["--trainer.max_epochs", "2", "--trainer.logger.save_dir", folder, "--trainer.accelerator", "cpu"]
        run_python([str(ROOT / "main.py"), "fit", *options])
        last = Path(folder, "quickstart", "version_0", "checkpoints", "last.ckpt")
        intact, previous = last.read_bytes(), str(last.with_name("previous.ckpt"))
        for number in range(count):
            chance = random.Random(f"{seed} {number}")
            last.write_bytes(_damage(intact, chance, number % 2 == 0))
            if problem := _problem(last, previous, f"{folder}/quickstart/*"):
                failures.append(f"seed {seed}, case {number}: {problem}")
        for number in range(min(_STARTS, count)):
            last.write_bytes(_damage(intact, random.Random(f"{seed} {number}"), number % 2 == 0))
            printed = run_python([str(ROOT / "main.py"), "fit", *options, "--ckpt_path", "last"], errors=True)
            if printed.count("is used instead") != 1:
                failures.append(f"seed {seed}, start {number}: {printed[-300:]}")
            shutil.rmtree(last.parents[1] / "val", ignore_errors=True)
    return Outcome("flipped bits and truncations of last.ckpt: the newest intact file is used", count, failures)


def _damage(intact: bytes, chance: random.Random, cut: bool) -> bytes:
    index = chance.randrange(len(intact))
    if cut:
        return intact[:index]
    content = bytearray(intact)
    content[index] ^= 1 << chance.randrange(8)
    return bytes(content)


def _problem(last: Path, previous: str, runs: str) -> str | None:
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        try:
            used = find_checkpoint("last", runs).file
        except InputError as error:
            return f"refused: {error}"
    if str(used) != previous:
        return f"{used} was used"
    message = printed.getvalue()
    return None if message.count("\n") == 1 and str(last) in message else f"printed {message!r}"
