"""Training images as the network sees them, after augmentation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from callbacks.rendering.grid import image_grid
from callbacks.tensorboard import summary_writer, warn_on_error
from cifar_lit.data.batches import Batch
from cifar_lit.tensorboard_tags import DATA


class TrainingSamples(Callback):
    """Show the first images of the first batch of ``fit``, augmented and mixed, with their labels.

    Args:
        count: Number of images; 0 shows none.
    """

    def __init__(self, count: int = 30) -> None:
        if count < 0:
            raise MisconfigurationException(f"TrainingSamples: count must be at least 0, got {count}")
        self.count = count

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Draw the first batch."""
        if trainer.current_epoch or batch_idx or self.count == 0:
            return
        with warn_on_error("TrainingSamples"):
            writer = summary_writer(trainer)
            if writer is None:
                return
            step = trainer.global_step + 1  # not before the first step: a resumed run would write it again
            picture = training_samples_grid(batch, pl_module.class_names, self.count)
            writer.add_image(f"{DATA}/training samples", picture, step, dataformats="HWC")


def training_samples_grid(batch: Batch, class_names: Sequence[str], count: int, dark: bool = False) -> np.ndarray:
    """Return the first images of an augmented batch with their labels, uint8 (height, width, 3); see ``image_grid``."""
    pixels = batch.pixels[:count].round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    captions = [label_text(label, class_names) for label in batch.labels[:count].cpu()]
    return image_grid(pixels, captions, columns=4, dark=dark)


def label_text(label: Tensor, class_names: Sequence[str]) -> str:
    """Return the class's name; for a mixed label, the classes with their weights, the largest first.

    Args:
        label: int64 scalar, or float (classes,) that sums to 1.
        class_names: The names of the classes.

    >>> label_text(torch.tensor(1), ["cat", "dog"]), label_text(torch.tensor([0.25, 0.75]), ["cat", "dog"])
    ('dog', '75% dog 25% cat')
    """
    if label.ndim == 0:
        return class_names[int(label)]
    weights, classes = label.sort(descending=True)
    pairs = zip(weights.tolist(), classes.tolist(), strict=True)
    return " ".join(f"{weight:.0%} {class_names[c]}" for weight, c in pairs if weight > 0.005)
