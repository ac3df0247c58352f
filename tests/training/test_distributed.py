import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.support.program import EXACT, QUIET, ROOT, TINY, Outcome
from tests.support.runs import EVALUATED, pictures, texts

LAUNCHER_PREFIXES = ("SLURM_", "MASTER_", "TORCHELASTIC_")  # of environment variables that launchers set


def scalars(run: Path) -> dict[str, float]:
    accumulator = EventAccumulator(str(run)).Reload()
    return {tag: accumulator.Scalars(tag)[-1].value for tag in accumulator.Tags()["scalars"]}


def test_two_processes_evaluate_and_draw_like_one(program: Callable[..., Outcome]) -> None:
    config = ROOT / "configs" / "quickstart.yaml"
    # 147 validation images do not divide evenly: one process evaluates 74 in two batches, the other 73 in one
    two = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.batch_size", "73"]
    odd = ["--data.folds", "7"]
    command = [sys.executable, ROOT / "main.py", "fit", "--config", config, *TINY, *EXACT, *two, *odd]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("│ loss ") == 1  # only rank 0 prints
    assert "wrote nothing" not in result.stderr
    [run] = Path("runs/quickstart").iterdir()
    two_processes = scalars(run)
    drawn = {tag: pictures(run, tag) for tag in EVALUATED}
    tables = ("2_mistakes/val/misclassified", "1_results/val/classes", "1_results/val/most confused pairs")
    written = {tag: texts(run, tag) for tag in tables}
    table = (run / "misclassified.csv").read_text()
    for file in run.glob("events*"):
        file.unlink()

    checkpoint = run / "checkpoints" / "last.ckpt"
    outcome = program("validate", "--ckpt_path", checkpoint, "--trainer.devices", 1, "--trainer.strategy", "auto")
    assert outcome.status == 0, outcome.err
    one = scalars(run)
    assert len(one) == 7  # loss, accuracy, two averages over classes, and three of temperature scaling
    assert {tag: two_processes[tag] for tag in one} == pytest.approx(one, abs=1e-6)
    assert "errors in 147 images" in written["2_mistakes/val/misclassified"][7]
    assert written == {tag: texts(run, tag) for tag in written}
    assert table == (run / "misclassified.csv").read_text()
    for tag in EVALUATED:
        again = pictures(run, tag)
        assert list(again) == list(drawn[tag]) == [7]
        assert np.array_equal(again[7], drawn[tag][7]), tag


def launch_with_lightning(command: Sequence[str]) -> list[tuple[int | None, str]]:
    """Run the command, which starts the second process itself; return its exit status and standard error."""
    result = subprocess.run([*command, "--trainer.strategy", "ddp"], capture_output=True, text=True, check=False)
    return [(result.returncode, result.stderr)]


def launch_as_slurm_tasks(command: Sequence[str]) -> list[tuple[int | None, str]]:
    """Run the command as two SLURM tasks, with srun's variables; return the exit status and standard error of each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    job = {"JOB_ID": 1, "JOB_NAME": "training", "NTASKS": 2, "NTASKS_PER_NODE": 2, "NNODES": 1, "NODELIST": "localhost"}
    others = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHER_PREFIXES)}

    def run(task: int) -> tuple[int | None, str]:
        variables = {
            f"SLURM_{name}": str(value) for name, value in {**job, "NODEID": 0, "PROCID": task, "LOCALID": task}.items()
        }
        environment = {**others, **variables, "MASTER_PORT": str(port)}
        try:
            result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
        except subprocess.TimeoutExpired as late:  # one process waits forever if the other fails
            return None, str(late)
        return result.returncode, result.stderr

    with ThreadPoolExecutor() as pool:
        return list(pool.map(run, (0, 1)))


@pytest.mark.parametrize("launch", [launch_with_lightning, launch_as_slurm_tasks])
def test_two_processes_train_like_one_with_the_same_global_batch(
    launch: Callable[[Sequence[str]], list[tuple[int | None, str]]], program: Callable[..., Outcome]
) -> None:
    config = ROOT / "configs" / "quickstart.yaml"
    # Group norm, since batch norm would see only half of each batch in each process;
    # float64, since in float32 the order of summation soon changes the curve
    net = ["--model.net.norm", "group", "--model.net.width", "8", "--trainer.precision", "64-true"]
    short = [
        "--trainer.max_epochs",
        "1",
        "--trainer.limit_train_batches",
        "15",
        "--trainer.log_every_n_steps",
        "1",
        "--trainer.callbacks",
        "[]",
        *QUIET,
    ]
    common = ["--config", str(config), *net, *short, "--trainer.accelerator", "cpu"]
    two = ["--trainer.devices", "2", "--data.batch_size", "32", "--trainer.logger.name", "two"]
    result = launch([sys.executable, str(ROOT / "main.py"), "fit", *common, *two])
    assert {status for status, _ in result} == {0}, "\n".join(error for _, error in result)
    assert program("fit", *common, "--data.batch_size", 64, "--trainer.logger.name", "one").status == 0
    curves = []
    for name in ("one", "two"):
        accumulator = EventAccumulator(f"runs/{name}/version_0").Reload()
        [tag] = [tag for tag in accumulator.Tags()["scalars"] if "loss_step" in tag]
        curves.append([point.value for point in accumulator.Scalars(tag)])
    assert len(curves[0]) == 15
    assert len(set(curves[0])) == 15
    assert curves[1] == pytest.approx(curves[0], rel=1e-6)  # TensorBoard keeps float32


def test_slurm_ntasks_without_ntasks_per_node_is_refused(
    program: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(LAUNCHER_PREFIXES)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_JOB_NAME", "training")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    two = ["--trainer.accelerator", "cpu", "--trainer.devices", "2"]
    refused = program("fit", "--config", ROOT / "configs" / "quickstart.yaml", *two)
    assert refused.status == 2
    assert "error: trainer: You set `--ntasks=2`" in refused.err
    assert "Use `--ntasks-per-node=2`" in refused.err


def test_the_other_processes_end_with_the_first() -> None:
    config = ROOT / "configs" / "quickstart.yaml"
    two = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.max_epochs", "1000"]
    command = [sys.executable, ROOT / "main.py", "fit", "--config", config, *TINY, *two]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        children = Path(f"/proc/{first.pid}/task/{first.pid}/children")
        wait_until(lambda: bool(list(Path("runs").rglob("last.ckpt"))))
        [second] = [child for child in children.read_text().split() if is_python(child)]
        first.kill()
    wait_until(lambda: not is_python(second))


def is_python(process: str) -> bool:
    status = Path(f"/proc/{process}/status")
    return status.is_file() and "zombie" not in status.read_text() and "python" in status.read_text()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
