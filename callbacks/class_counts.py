"""Number of images of each class, as a chart and a table in TensorBoard."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.rendering.charts import class_count_chart
from callbacks.rendering.markdown import escape, table
from callbacks.tensorboard import warn_on_error, writer_unless_resumed
from cifar_lit.tensorboard_tags import DATA


class ClassCounts(Callback):
    """Show the number of images of each class in the training and validation splits; the test split is not read."""

    @warn_on_error("ClassCounts")
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the chart and the table once."""
        writer = writer_unless_resumed(trainer)
        data = trainer.datamodule
        if writer is None or data is None:
            return
        names = data.class_names
        sets = {"train": data.train_set, "val": data.val_set}
        counts = {
            split: torch.bincount(images.labels, minlength=len(names)).tolist()
            for split, images in sets.items()
            if images is not None
        }
        chart = class_count_chart(names, counts)
        writer.add_image(f"{DATA}/class counts", chart, trainer.global_step, dataformats="HWC")
        rows = [[escape(name), *map(str, row)] for name, *row in zip(names, *counts.values(), strict=True)]
        rows.append(["**all**", *(f"**{sum(column)}**" for column in counts.values())])
        writer.add_text(f"{DATA}/class counts", table(["class", *counts], rows, raw=True), trainer.global_step)
