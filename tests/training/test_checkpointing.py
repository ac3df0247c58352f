"""Detection of damaged, truncated and incomplete checkpoints, and the fallback to an intact one."""

import errno
import io
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cifar_lit.safe_files import write_atomically
from cifar_lit.training.checkpointing.checkpoint_digest import find_damage, seal
from cifar_lit.training.checkpointing.checkpoint_files import find_checkpoint, read_checkpoint
from cifar_lit.training.checkpointing.checkpoint_io import AtomicCheckpointIO
from tests.support.program import ROOT, TINY, Outcome

Fit = Callable[..., Path]
Program = Callable[..., Outcome]


def checkpoint() -> dict[str, Any]:
    return {"state_dict": {"weight": torch.arange(500.0)}, "epoch": 3}


def archive(sealed: bool = True) -> bytearray:
    buffer = io.BytesIO()
    torch.save(checkpoint(), buffer)
    if sealed:
        seal(buffer)
    return bytearray(buffer.getvalue())


def test_sealed_checkpoint_is_intact_and_readable_by_torch() -> None:
    write_atomically(Path("a.ckpt"), archive())
    assert find_damage(Path("a.ckpt")) is None
    for mapped in (False, True):
        read = torch.load("a.ckpt", weights_only=True, mmap=mapped)
        assert torch.equal(read["state_dict"]["weight"], torch.arange(500.0))


def test_every_flipped_bit_and_truncation_is_detected() -> None:
    content = archive()
    rng = random.Random(0)
    indices = {*range(len(content) - 120, len(content)), *rng.sample(range(len(content)), 500)}
    for index in indices:
        flipped = bytearray(content)
        flipped[index] ^= 1 << rng.randrange(8)
        Path(f"{index}.ckpt").write_bytes(flipped)
        assert find_damage(Path(f"{index}.ckpt")), f"bit of byte {index} of {len(content)}"
    for length in {*range(200), *rng.sample(range(len(content)), 300)}:
        Path(f"cut{length}.ckpt").write_bytes(content[:length])
        assert find_damage(Path(f"cut{length}.ckpt")), f"cut to {length} of {len(content)}"
    Path("longer.ckpt").write_bytes(content + b"\0")
    assert find_damage(Path("longer.ckpt"))


def test_checkpoint_without_a_digest_is_checked_by_its_zip_checksums() -> None:
    content = archive(sealed=False)
    Path("plain.ckpt").write_bytes(content)
    assert find_damage(Path("plain.ckpt")) is None
    index = content.index(torch.arange(500.0).numpy().tobytes()[400:440])
    content[index] ^= 1
    Path("flipped.ckpt").write_bytes(content)
    assert find_damage(Path("flipped.ckpt")) == "was damaged after it was written"


def test_failed_write_leaves_only_the_old_file(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path("folder/last.ckpt")
    write_atomically(file, b"first")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(file, b"second")
    assert [one.name for one in file.parent.iterdir()] == ["last.ckpt"]
    assert file.read_bytes() == b"first"


def test_previous_file_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    file, previous = Path("last.ckpt"), Path("previous.ckpt")
    for content in (b"1", b"2", b"3"):
        write_atomically(file, content, previous)
    assert (file.read_bytes(), previous.read_bytes()) == (b"3", b"2")
    monkeypatch.delattr(os, "link")  # a file system without hard links
    monkeypatch.setattr(os, "link", lambda *names: (_ for _ in ()).throw(OSError()), raising=False)
    write_atomically(file, b"4", previous)
    assert (file.read_bytes(), previous.read_bytes()) == (b"4", b"3")


def test_write_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[float] = []
    monkeypatch.setattr("cifar_lit.training.checkpointing.checkpoint_io.time.sleep", delays.append)
    failing = 2

    def write(*args: Any) -> None:
        nonlocal failing
        failing -= 1
        if failing >= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("cifar_lit.training.checkpointing.checkpoint_io.write_atomically", write)
    AtomicCheckpointIO().save_checkpoint(checkpoint(), "last.ckpt")
    assert len(delays) == 2


def test_run_that_cannot_write_checkpoints_ends_with_a_one_line_error(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar_lit.training.checkpointing.checkpoint_io._WAITS", ())

    def write(file: Path, *content: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left")

    monkeypatch.setattr("cifar_lit.training.checkpointing.checkpoint_io.write_atomically", write)
    outcome = program("fit", "--config", ROOT / "configs" / "quickstart.yaml", *TINY)
    assert outcome.status == 2
    assert "cannot be written (No space left)" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("kind", ["cut", "flip", "empty", "folder", "link to nothing", "link to itself"])
def test_last_falls_back_to_the_newest_intact_checkpoint(kind: str, fit: Fit, program: Program) -> None:
    run = fit("run", "--trainer.max_epochs", 2)
    file = run / "checkpoints" / "last.ckpt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    if contents := {"cut": content[: len(content) // 2], "flip": content, "empty": b""}.get(kind):
        file.write_bytes(contents)
    else:
        file.unlink()
        if kind == "folder":
            file.mkdir()
        elif kind.startswith("link"):
            file.symlink_to("nothing" if kind == "link to nothing" else file.name)
    options = ["--config", ROOT / "configs" / "quickstart.yaml", *TINY, "--trainer.logger.name", "run"]
    outcome = program("fit", *options, "--trainer.max_epochs", 2, "--resume")
    assert outcome.status == (2 if kind == "folder" else 0), outcome.err
    [warning] = [line for line in outcome.err.splitlines() if "is used instead" in line]
    assert "last.ckpt" in warning
    assert "previous.ckpt" in warning or "best.ckpt" in warning


def test_the_last_checkpoint_is_used_even_without_its_optimizer(fit: Fit) -> None:
    file = fit("run") / "checkpoints" / "last.ckpt"
    checkpoint = read_checkpoint(file)
    del checkpoint["optimizer_states"]
    AtomicCheckpointIO().save_checkpoint(checkpoint, file)
    assert find_checkpoint("last", "runs/*/*").file.name == file.name


def test_damaged_checkpoint_named_explicitly_is_refused(fit: Fit, program: Program) -> None:
    run = fit("run")
    best = run / "checkpoints" / "best.ckpt"
    best.write_bytes(best.read_bytes()[:-5])
    outcome = program("test", "--ckpt_path", best)
    assert outcome.status == 2
    assert f"{best} is truncated or damaged" in outcome.err
    assert "Traceback" not in outcome.err


def test_a_run_whose_configuration_is_missing_is_resumed(fit: Fit, program: Program) -> None:
    run = fit("run")
    (run / "config.yaml").unlink()
    options = ["--config", ROOT / "configs" / "quickstart.yaml", *TINY, "--trainer.logger.name", "run"]
    outcome = program("fit", *options, "--resume")
    assert outcome.status == 0, outcome.err
    assert f"Resuming {run / 'checkpoints' / 'last.ckpt'}" in outcome.out
    assert [path.name for path in run.parent.iterdir()] == [run.name]


def test_a_run_is_trained_by_one_process_at_a_time(fit: Fit, program: Program) -> None:
    run = fit("run")
    hold = (
        f"import filelock, time; lock = filelock.FileLock({str(run / '.lock')!r}); lock.acquire(); print(flush=True); "
    )
    hold += "time.sleep(99)"
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        outcome = program("fit", "--ckpt_path", run / "checkpoints" / "last.ckpt")
        assert outcome.status == 2
        assert f"another process is training in {run}" in outcome.err
        other.kill()
    outcome = program("fit", "--ckpt_path", run / "checkpoints" / "last.ckpt")
    assert outcome.status == 0, outcome.err


def test_a_signal_ends_a_run_in_which_no_batch_ends() -> None:
    code = """
import os, signal, time
from cifar_lit.training.checkpointing import graceful_shutdown
graceful_shutdown._PATIENCE = 0.5
signals = graceful_shutdown.GracefulShutdown()
signals.install()
os.kill(os.getpid(), signal.SIGTERM)
for _ in range(5):
    time.sleep(0.2)
    signals.batch_ended()
print("still running", flush=True)
time.sleep(60)
"""
    ended = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, capture_output=True, timeout=50)
    assert (ended.returncode, ended.stdout) == (128 + signal.SIGTERM, b"still running\n")
