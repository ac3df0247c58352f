"""Progress in one line of a terminal 80 columns wide."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar


class OneLineProgressBar(RichProgressBar):
    """Lightning's rich progress bar, with the newest training loss and the last validation's accuracy.

    Args:
        refresh_rate: After how many batches to draw it anew; drawing at every one slows small networks.
        leave: Whether to leave the line of each epoch on the screen.
    """

    def __init__(self, refresh_rate: int = 10, leave: bool = False) -> None:
        super().__init__(refresh_rate, leave)

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        """Lightning's columns without the last, the rate, which is half of what the time beside it says."""
        return super().configure_columns(trainer)[:-1]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draws, if it is time; Lightning's collects what to draw after every batch, drawn or not."""
        done = batch_idx + 1
        if not self.is_enabled:
            return
        if done % self.refresh_rate == 0 or done == trainer.num_training_batches:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def _get_train_description(self, current_epoch: int) -> str:
        """Counts the epochs from 1, as the pictures and the checkpoints' table do."""
        return (
            super()
            ._get_train_description(current_epoch + 1)
            .replace(f"/{(self.trainer.max_epochs or 0) - 1}", f"/{self.trainer.max_epochs}")
        )

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The loss and the accuracy, under names short enough for the line."""
        metrics = super().get_metrics(trainer, pl_module)
        shown: dict[str, Any] = {}
        if "train/loss_step" in metrics:
            shown["loss"] = metrics["train/loss_step"]
        if "val/accuracy" in metrics:
            shown["val"] = f"{metrics['val/accuracy']:.1%}"
        return shown
