"""Overhead of the diagnostic callbacks."""

import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.pytorch import Callback, seed_everything

from benchmarks.random_images import RandomImages
from benchmarks.timing import print_table
from callbacks.calibration import CalibrationPlot
from callbacks.confusion_matrix import ConfusionMatrix
from callbacks.grad_cam import GradCAMImages
from callbacks.misclassified import MisclassifiedImages
from cifar_lit.cli.warning_filters import ignore_third_party_warnings
from cifar_lit.data.augment import HorizontalFlip, RandomCrop
from cifar_lit.models import ResNet9
from cifar_lit.training.classifier import Classifier
from cifar_lit.training.logger import RunLogger
from cifar_lit.training.precision import fastest_precision
from cifar_lit.training.trainer import Trainer

HOOKS = [name for name in dir(Callback) if name.startswith("on_")]


def overhead(epochs: int = 2, train_batches: int = 20) -> None:
    """Measure the share of a ResNet-9 epoch (45,000 + 5,000 images) that each diagnostic callback takes.

    Args:
        epochs: Number of epochs to measure, after one warm-up epoch.
        train_batches: Number of training batches to run of the 88 in an epoch; the training time is extrapolated.
    """
    ignore_third_party_warnings()
    seed_everything(0)
    diagnostics = [MisclassifiedImages(), GradCAMImages(), ConfusionMatrix(), CalibrationPlot()]
    spent: dict[str, float] = defaultdict(float)
    for callback in diagnostics:
        for hook in HOOKS:
            setattr(callback, hook, partial(_timed, getattr(callback, hook), type(callback).__name__, spent))
    clock = _EpochClock(spent)
    with TemporaryDirectory() as folder:
        trainer = Trainer(
            callbacks=[clock, *diagnostics],
            logger=RunLogger(folder),
            max_epochs=1 + epochs,
            limit_train_batches=train_batches,
            precision=fastest_precision("auto"),
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            num_sanity_val_steps=0,
        )
        data = RandomImages(augment=[RandomCrop(), HorizontalFlip()])
        trainer.fit(Classifier(ResNet9(), optimizer=partial(torch.optim.Adam, lr=1e-3)), datamodule=data)
    batches = len(data.train_set) / data.batch_size
    total = sum(clock.evaluation) + sum(clock.training) * batches / train_batches
    print(f"\nAn epoch takes {total / epochs:.1f} s, of which:")
    all_callbacks = sum(spent.values())
    spent |= {"all but CalibrationPlot": all_callbacks - spent["CalibrationPlot"], "all": all_callbacks}
    rows = [[name, f"{1000 * seconds / epochs:.0f}", f"{seconds / total:.2%}"] for name, seconds in spent.items()]
    print_table(["callback", "ms per epoch", "share"], rows)


def _timed(hook: Callable[..., Any], name: str, spent: dict[str, float], *args: Any, **kwargs: Any) -> None:
    start = time.perf_counter()
    hook(*args, **kwargs)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    spent[name] += time.perf_counter() - start


class _EpochClock(Callback):
    """Record each epoch's training and validation seconds; the first epoch is left out, and cleared from ``spent``."""

    def __init__(self, spent: dict[str, float]) -> None:
        self.spent = spent
        self.training: list[float] = []
        self.evaluation: list[float] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        self._epoch_start = time.perf_counter()

    def on_validation_start(self, *_: Any) -> None:
        self._validation_start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.current_epoch == 0:
            self.spent.clear()
            return
        self.training.append(self._validation_start - self._epoch_start)
        self.evaluation.append(time.perf_counter() - self._validation_start)
