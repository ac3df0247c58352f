"""What a step costs beyond its arithmetic, with a network so small that it is nearly all there is."""

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

from benchmarks.random_images import RandomImages
from benchmarks.results import Result, result
from callbacks.progress_bar import OneLineProgressBar
from cifar_lit.cli.warning_filters import ignore_third_party_warnings
from cifar_lit.models import PixelNormalization, TinyNet
from cifar_lit.training.classifier import Classifier
from cifar_lit.training.logger import RunLogger
from cifar_lit.training.trainer import Trainer

_BATCH = 4


def overhead_per_step(quick: bool) -> list[Result]:
    """Lightning's share of a step here, against that with its typical settings."""
    ignore_third_party_warnings()
    warnings.simplefilter("ignore")
    steps, rounds = (300, 2) if quick else (1500, 7)
    arms: dict[str, Callable[[int], float]] = {
        "bare": _bare,
        "fit": _fit,
        "fit, logging each step": partial(_fit, log_every_n_steps=1),
        "typical": _typical,
    }
    found: dict[str, list[float]] = {name: [] for name in arms}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several only wait for each other in a network this small
    for _ in range(rounds):
        for name, seconds_of in arms.items():
            found[name].append(1e6 * seconds_of(steps))
    torch.set_num_threads(threads)
    extra = {
        name: [taken - bare for taken, bare in zip(found[name], found["bare"], strict=True)] for name in list(arms)[1:]
    }
    figures = f"bare loop {statistics.median(found['bare']):.0f} µs a step; extra " + ", ".join(
        f"{name} {statistics.median(many):.0f} µs" for name, many in extra.items()
    )
    ratios = [ours / theirs for ours, theirs in zip(extra["fit"], extra["typical"], strict=True)]
    return [
        result(
            "overhead per step (bar, curves, schedule) over that of Lightning's typical settings (tiny network)",
            ratios,
            "≤ 0.33",
            figures,
            quick,
        ),
        result(
            "overhead per step with lean logging (every 50 steps) over that with logging in each step",
            [lean / each for lean, each in zip(extra["fit"], extra["fit, logging each step"], strict=True)],
            "reported",
            figures,
            quick,
        ),
    ]


class _StepClock(Callback):
    """Seconds a step, after the first 50, which warm up."""

    warm = 50

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx + 1 == self.warm:
            self._start = time.perf_counter()
        self.seconds = (
            (time.perf_counter() - self._start) / max(1, batch_idx + 1 - self.warm) if batch_idx >= self.warm else 0.0
        )


def _network() -> nn.Module:
    return nn.Sequential(PixelNormalization([0.5] * 3, [0.25] * 3), TinyNet()).to(memory_format=torch.channels_last)


def _bare(steps: int) -> float:
    data = RandomImages(_BATCH * (steps + _StepClock.warm)).load("train")
    assert data is not None
    batches = list(zip(data.pixels.split(_BATCH), data.labels.split(_BATCH), strict=True))
    net = _network()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=len(batches))
    start = 0.0
    for number, (images, labels) in enumerate(batches):
        if number == _StepClock.warm:
            start = time.perf_counter()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
    return (time.perf_counter() - start) / steps


def _fit(steps: int, log_every_n_steps: int = 50) -> float:
    clock = _StepClock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            callbacks=[LearningRateMonitor("step"), OneLineProgressBar(), clock],
            logger=RunLogger(folder),
            max_epochs=1,
            accelerator="cpu",
            precision="32-true",
            log_every_n_steps=log_every_n_steps,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        model = Classifier(
            TinyNet(),
            optimizer=partial(torch.optim.SGD, lr=1e-3, momentum=0.9),
            lr_scheduler=partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1e-3),
        )
        data = RandomImages(_BATCH * (steps + clock.warm), batch_size=_BATCH, val_fraction=0)
        trainer.fit(model, datamodule=data)
    return clock.seconds


class _Typical(LightningModule):
    """As most tutorials have it: every metric an object, logged at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.net = _network()
        self.accuracy = MulticlassAccuracy(10)

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        logits = self.net(images)
        loss = F.cross_entropy(logits, labels)
        self.accuracy(logits, labels)
        self.log("train_loss", loss, prog_bar=True)
        self.log("train_accuracy", self.accuracy, prog_bar=True, on_step=True, on_epoch=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=1e-3, momentum=0.9, fused=True)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _typical(steps: int) -> float:
    clock = _StepClock()
    data = RandomImages(_BATCH * (steps + clock.warm)).load("train")
    assert data is not None
    # Batches as they are: what reading them one image at a time costs is measured elsewhere
    batches = list(zip(data.pixels.split(_BATCH), data.labels.split(_BATCH), strict=True))
    loader = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        trainer = LightningTrainer(
            callbacks=[LearningRateMonitor("step"), clock],
            logger=TensorBoardLogger(folder),
            max_epochs=1,
            accelerator="cpu",
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        trainer.fit(_Typical(), loader)
    return clock.seconds
