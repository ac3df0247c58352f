"""Training images as the network sees them, after augmentation."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from callbacks.rendering.grid import image_grid
from callbacks.tensorboard import harmless, summary_writer


class TrainingSamples(Callback):
    """Shows the first images of the first batch of ``fit``, augmented and mixed, with their labels.

    Args:
        count: How many images; 0 shows none.
    """

    def __init__(self, count: int = 30) -> None:
        if count < 0:
            raise MisconfigurationException(f"TrainingSamples: count must be at least 0, got {count}")
        self.count = count
        self._shown = False

    def state_dict(self) -> dict[str, Any]:
        """Whether they were shown."""
        return {"shown": self._shown}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes that over."""
        self._shown = state_dict["shown"]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Draws the batch that is about to be trained on, once."""
        if self._shown or self.count == 0:
            return
        self._shown = True
        with harmless("TrainingSamples"):
            writer = summary_writer(trainer)
            if writer is None:
                return
            pixels = batch.pixels[: self.count].round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
            captions = [label_text(label, pl_module.class_names) for label in batch.labels[: self.count].cpu()]
            step = trainer.global_step + 1  # the first, and not before it: a run that goes on writes it anew
            writer.add_image("your run/training samples", image_grid(pixels, captions), step, dataformats="HWC")


def label_text(label: Tensor, class_names: list[str]) -> str:
    """The class's name; of a mixed label, its parts with their shares, the largest first.

    Args:
        label: int64 scalar, or float (classes,) that sums to 1.
        class_names: The classes.

    >>> label_text(torch.tensor(1), ["cat", "dog"]), label_text(torch.tensor([0.25, 0.75]), ["cat", "dog"])
    ('dog', '75% dog 25% cat')
    """
    if label.ndim == 0:
        return class_names[int(label)]
    shares, classes = label.sort(descending=True)
    return " ".join(
        f"{share:.0%} {class_names[c]}" for share, c in zip(shares, classes.tolist(), strict=True) if share > 0.005
    )
