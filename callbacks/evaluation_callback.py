"""What the callbacks share that watch validation and test: which batches they see, and where they write."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from PIL import Image

from callbacks.tensorboard import summary_writer


class EvaluationCallback(Callback, ABC):
    """Watches the batches of each validation and test, and writes at the last one what it saw.

    A subclass says how it begins, what it adds of each batch, what all processes saw together, and what is written of
    that, on rank 0 alone. It sees no sanity check. The weights are those that were scored, also where a callback swaps
    averaged ones in for the time (which it ends at the epoch's end: too early for us).

    Args:
        every_n_epochs: Write after every so many epochs of ``fit``, and after its last (of ``max_epochs`` or
            ``max_steps``); ``validate`` and ``test`` always write. 0 switches the callback off.
        png: Also save each picture as a PNG file beside the event file.
    """

    def __init__(self, every_n_epochs: int = 1, png: bool = False) -> None:
        if every_n_epochs < 0:
            raise MisconfigurationException(
                f"{type(self).__name__}: every_n_epochs must be at least 0, which switches it off, got {every_n_epochs}"
            )
        self.every_n_epochs, self.png = every_n_epochs, png
        self._watching = self._due = self._told = False

    @abstractmethod
    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts anew, before the first batch."""

    @abstractmethod
    def watch(self, pl_module: LightningModule, outputs: dict[str, Any], batch: Any) -> None:
        """Adds a batch.

        Args:
            pl_module: The classifier.
            outputs: What its ``validation_step`` gave: logits (N, C), labels (N,), indices (N,).
            batch: What it got: pixels uint8 (N, 3, H, W), labels and indices.
        """

    @abstractmethod
    def merge(self, pl_module: LightningModule) -> Any:
        """What all processes saw together; called in all of them."""

    @abstractmethod
    def write(self, merged: Any, evaluation: "Evaluation") -> None:
        """Writes what was seen; called on rank 0. An error is told and does not end the run."""

    # Lightning's hooks

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts anew, unless it is the sanity check or an epoch that is left out."""
        self._due = trainer.state.fn != "fit" or self._is_due_in_fit(trainer)
        self._begin(trainer, pl_module, self._due and not trainer.sanity_checking)

    def _is_due_in_fit(self, trainer: Trainer) -> bool:
        if self.every_n_epochs == 0:
            return False
        epochs = trainer.current_epoch + 1
        last = epochs == trainer.max_epochs or 0 <= trainer.max_steps <= trainer.global_step
        before = epochs - (trainer.check_val_every_n_epoch or 1)  # at the validation before
        return last or epochs // self.every_n_epochs > before // self.every_n_epochs

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Adds a batch; after the last, writes."""
        if not self._watching:
            return
        with self.warn_on_error(trainer, pl_module):
            self.watch(pl_module, outputs, batch)
        batches = trainer.num_test_batches if trainer.testing else trainer.num_val_batches
        if (dataloader_idx, batch_idx) == (len(batches) - 1, batches[-1] - 1):
            self._end(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes, if it could not be known which batch was the last."""
        self._end(trainer, pl_module)

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end

    def _begin(self, trainer: Trainer, pl_module: LightningModule, watching: bool) -> None:
        self._watching = watching and self.every_n_epochs > 0
        if self._watching:
            with self.warn_on_error(trainer, pl_module):
                self.begin(trainer, pl_module)

    def _end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._watching:
            return
        with self.warn_on_error(trainer, pl_module):
            merged = self.merge(pl_module)
        if self._watching and trainer.is_global_zero:
            with self.warn_on_error(trainer, pl_module, alone=True):
                self.write(merged, Evaluation.of(trainer, pl_module, self.png))
        self._watching = False

    @contextmanager
    def warn_on_error(self, trainer: Trainer, pl_module: LightningModule, alone: bool = False) -> Iterator[None]:
        """A picture that fails, whyever, costs the picture and not the run: it is told once, with its cause.

        Args:
            trainer: The trainer.
            pl_module: The classifier.
            alone: Whether this process works alone. Where others do the same, they would wait for ever for one that has
                given up, and the error is raised.
        """
        try:
            yield
        except MisconfigurationException:
            raise
        except Exception as error:
            if trainer.world_size > 1 and not alone:
                raise
            self._watching = False
            if not self._told:
                self._told = True
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                step = pl_module.trained_step
                rank_zero_warn(f"{type(self).__name__} wrote nothing at step {step} ({reason}); the run goes on")


def judged_dataset(trainer: Trainer) -> Any:
    """The data set that the trainer validates or tests by; None if its loader has none."""
    loaders = trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders
    return getattr(loaders, "dataset", None)


@dataclass(frozen=True)
class Evaluation:
    """One validation or test: what it judged, and where what is seen of it is written.

    split: ``val`` or ``test``.
    epoch, step: How long the weights were trained.
    """

    trainer: Trainer
    pl_module: LightningModule
    split: str
    epoch: int
    step: int
    png: bool

    @classmethod
    def of(cls, trainer: Trainer, pl_module: LightningModule, png: bool) -> "Evaluation":
        """The evaluation that the trainer is in."""
        split = "test" if trainer.testing else "val"
        return cls(trainer, pl_module, split, pl_module.trained_epoch, pl_module.trained_step, png)

    @property
    def when(self) -> str:
        """For titles."""
        split = {"val": "validation"}.get(self.split, self.split)
        return f"{split} · epoch {self.epoch} · step {self.step}"

    @property
    def folder(self) -> Path | None:
        """The run's folder; None if no logger writes to one."""
        folders = (
            logger.log_dir for logger in self.trainer.loggers if isinstance(logger, TensorBoardLogger | CSVLogger)
        )
        return next(map(Path, folders), None)

    def file_of(self, index: int) -> str:
        """The file that an image is from, relative to its split's folder; empty where that is not known."""
        files: Sequence[str] = getattr(judged_dataset(self.trainer), "files", ())
        return files[index] if index < len(files) else ""

    def add_image(self, tag: str, picture: np.ndarray) -> None:
        """Writes a picture, uint8 (H, W, 3), under ``val/`` or ``test/``."""
        writer = summary_writer(self.trainer)
        if writer is not None:
            writer.add_image(f"{self.split}/{tag}", picture, self.step, dataformats="HWC")
        if self.png and self.folder is not None:
            name = re.sub(r"\W+", "_", tag.replace("+", "plus"))
            file = self.folder / self.split / name / f"step_{self.step:07}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(file)

    def add_text(self, tag: str, markdown: str) -> None:
        """Writes a text, in Markdown, under ``val/`` or ``test/``."""
        writer = summary_writer(self.trainer)
        if writer is not None:
            writer.add_text(f"{self.split}/{tag}", markdown, self.step)

    def add_scalars(self, values: dict[str, float]) -> None:
        """Writes numbers into the curves of the split."""
        for logger in self.trainer.loggers:
            logger.log_metrics({f"{self.split}/{name}": value for name, value in values.items()}, self.step)
