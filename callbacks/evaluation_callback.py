"""Base class of the callbacks that observe validation and test, and the writer of their results."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from PIL import Image
from torch import Tensor, device, nn
from torchmetrics import Metric

from callbacks.tensorboard import summary_writer
from cifar_lit.data.batches import ImageDataset
from cifar_lit.evaluation.calibration import TemperatureSweep


class EvaluatedModule(Protocol):
    """Interface that the callbacks require of the LightningModule.

    net: The network, without preprocessing.
    temperature: The temperature chosen by the last validation.
    """

    class_names: list[str]
    net: nn.Module
    example_input_array: Any
    calibration: TemperatureSweep
    temperature: float

    @property
    def trained_step(self) -> int:
        """Number of steps that the weights were trained for."""

    @property
    def trained_epoch(self) -> int:
        """Number of epochs that the weights were trained for."""

    @property
    def device(self) -> device:
        """Device of the weights."""

    def preprocess(self, pixels: Tensor) -> Tensor:
        """Return the input of ``net`` for pixels uint8 (N, 3, H, W)."""

    def evaluate(self, pixels: Tensor) -> Tensor:
        """Return logits float32 (N, C) for pixels uint8 (N, 3, H, W), with test-time augmentation."""

    def all_gather(self, data: Any) -> Any:
        """Gather tensors from all processes."""


class EvaluationCallback(Callback, ABC):
    """Collect the batches of each validation and test, and write the results after the last batch.

    Subclasses implement ``reset``, ``update``, ``compute`` and ``write``. The sanity check is skipped. Results
    are written before the epoch's end, where a weight-averaging callback swaps the averaged weights out again.

    Args:
        every_n_epochs: Write every n epochs of ``fit`` and after the last one; ``validate`` and ``test`` always
            write. 0 switches the callback off.
        png: Also save each picture as a PNG file next to the event file.
    """

    def __init__(self, every_n_epochs: int = 1, png: bool = False) -> None:
        if every_n_epochs < 0:
            raise MisconfigurationException(
                f"{type(self).__name__}: every_n_epochs must be at least 0, got {every_n_epochs}; 0 switches it off"
            )
        self.every_n_epochs, self.png = every_n_epochs, png
        self._active = self._warned = False

    @abstractmethod
    def reset(self, trainer: Trainer, pl_module: EvaluatedModule) -> None:
        """Reset the state, before the first batch."""

    @abstractmethod
    def update(self, pl_module: EvaluatedModule, outputs: dict[str, Any], batch: Any) -> None:
        """Add a batch.

        Args:
            pl_module: The classifier.
            outputs: Output of its ``validation_step``: logits (N, C), labels (N,), indices (N,).
            batch: Input of its ``validation_step``: pixels uint8 (N, 3, H, W), labels and indices.
        """

    @abstractmethod
    def compute(self, pl_module: EvaluatedModule) -> Any:
        """Return the results over all processes; called in all of them."""

    @abstractmethod
    def write(self, results: Any, writer: "EvaluationWriter") -> None:
        """Write the results; called on rank 0. An error becomes a warning and does not end the run."""

    # Lightning's hooks

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the state, unless this is the sanity check or an epoch to skip."""
        due = trainer.state.fn != "fit" or self._is_due_in_fit(trainer)
        self._active = due and not trainer.sanity_checking and self.every_n_epochs > 0
        if self._active:
            with self.warn_on_error(trainer, pl_module):
                self.reset(trainer, pl_module)

    def _is_due_in_fit(self, trainer: Trainer) -> bool:
        if self.every_n_epochs == 0:
            return False
        epochs = trainer.current_epoch + 1
        last = epochs == trainer.max_epochs or 0 <= trainer.max_steps <= trainer.global_step
        previous = epochs - (trainer.check_val_every_n_epoch or 1)  # at the last validation
        return last or epochs // self.every_n_epochs > previous // self.every_n_epochs

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add a batch; after the last one, write the results."""
        if not self._active:
            return
        with self.warn_on_error(trainer, pl_module):
            self.update(pl_module, outputs, batch)
        batches = trainer.num_test_batches if trainer.testing else trainer.num_val_batches
        if (dataloader_idx, batch_idx) == (len(batches) - 1, batches[-1] - 1):
            self._end(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the results if the number of batches was unknown."""
        self._end(trainer, pl_module)

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end

    def _end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._active:
            return
        with self.warn_on_error(trainer, pl_module):
            results = self.compute(pl_module)
        if self._active and trainer.is_global_zero:
            with self.warn_on_error(trainer, pl_module, single_process=True):
                self.write(results, EvaluationWriter(trainer, pl_module, self.png))
        self._active = False

    @contextmanager
    def warn_on_error(
        self, trainer: Trainer, pl_module: EvaluatedModule, single_process: bool = False
    ) -> Iterator[None]:
        """Turn an error into a warning, once, so that a failed plot does not end the run.

        Args:
            trainer: The trainer.
            pl_module: The classifier.
            single_process: Whether only this process runs the code. Otherwise the error is raised if there are several
                processes: the others would wait forever for this one.
        """
        try:
            yield
        except MisconfigurationException:
            raise
        except Exception as error:
            if trainer.world_size > 1 and not single_process:
                raise
            self._active = False
            if not self._warned:
                self._warned = True
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                step = pl_module.trained_step
                rank_zero_warn(f"{type(self).__name__} wrote nothing at step {step} ({reason}); the run continues")


class MetricCallback(EvaluationCallback):
    """An evaluation callback whose state is one metric of logits and labels, which subclasses create in ``setup``."""

    metric: Metric

    def reset(self, trainer: Trainer, pl_module: EvaluatedModule) -> None:
        """Reset the metric."""
        self.metric.to(pl_module.device).reset()

    def update(self, pl_module: EvaluatedModule, outputs: dict[str, Any], batch: Any) -> None:
        """Add a batch to the metric."""
        self.metric.update(outputs["logits"], outputs["labels"])

    def compute(self, pl_module: EvaluatedModule) -> Any:
        """Return the metric over all processes."""
        return self.metric.compute()


def evaluation_dataset(trainer: Trainer) -> ImageDataset | None:
    """Return the dataset of the current validation or test; None if it is of another kind."""
    loaders = trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders
    dataset = getattr(loaders, "dataset", None)
    return dataset if isinstance(dataset, ImageDataset) else None


@dataclass(frozen=True)
class EvaluationWriter:
    """Write pictures, texts and scalars of the current validation or test to the loggers.

    png: Whether to also save pictures as PNG files.
    """

    trainer: Trainer
    pl_module: EvaluatedModule
    png: bool

    @property
    def split(self) -> str:
        """``val`` or ``test``."""
        return "test" if self.trainer.testing else "val"

    @property
    def step(self) -> int:
        """Number of steps that the weights were trained for."""
        return self.pl_module.trained_step

    @property
    def subtitle(self) -> str:
        """Split, epoch and step, for titles."""
        split = {"val": "validation"}.get(self.split, self.split)
        return f"{split} · epoch {self.pl_module.trained_epoch} · step {self.step}"

    @property
    def folder(self) -> Path | None:
        """The run's folder; None if no logger has one."""
        folders = (
            logger.log_dir for logger in self.trainer.loggers if isinstance(logger, TensorBoardLogger | CSVLogger)
        )
        return next(map(Path, folders), None)

    def file_of(self, index: int) -> str:
        """Return the file of an image, relative to its split's folder; empty if unknown."""
        dataset = evaluation_dataset(self.trainer)
        return dataset.files[index] if dataset is not None and index < len(dataset.files) else ""

    def add_image(self, group: str, name: str, picture: np.ndarray) -> None:
        """Write a picture, uint8 (H, W, 3), under ``group/val/`` or ``group/test/``."""
        writer = summary_writer(self.trainer)
        if writer is not None:
            writer.add_image(f"{group}/{self.split}/{name}", picture, self.step, dataformats="HWC")
        if self.png and self.folder is not None:
            folder = re.sub(r"\W+", "_", name.replace("+", "plus"))
            file = self.folder / self.split / folder / f"step_{self.step:07}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(file)

    def add_text(self, group: str, name: str, markdown: str) -> None:
        """Write a Markdown text under ``group/val/`` or ``group/test/``."""
        writer = summary_writer(self.trainer)
        if writer is not None:
            writer.add_text(f"{group}/{self.split}/{name}", markdown, self.step)

    def add_scalars(self, values: dict[str, float]) -> None:
        """Log scalars under ``val/`` or ``test/``."""
        for logger in self.trainer.loggers:
            logger.log_metrics({f"{self.split}/{name}": value for name, value in values.items()}, self.step)
