"""S4's ResNet-9 as a typical Lightning script trains it: float32, NCHW, per-sample albumentations, logging each step.

python -m benchmarks.scripts.baseline_seeds_way BATCH_SIZE BATCHES EPOCHS WORKERS
Prints one line of JSON in the format of benchmarks.clock, without validation.
"""

import json
import os
import sys
import tempfile
import time
import warnings

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAccuracy

from benchmarks.clock import memory
from cifar_lit.models import ResNet9

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Images(Dataset):
    def __init__(self, count):
        import albumentations as album

        self.images = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8).numpy()
        self.labels = torch.randint(0, 10, (count,)).tolist()
        mean_color = tuple(255 * channel for channel in MEAN)
        self.transform = album.Compose(
            [
                album.PadIfNeeded(48, 48, border_mode=0, fill=mean_color),
                album.RandomCrop(32, 32),
                album.HorizontalFlip(p=0.5),
                album.CoarseDropout((1, 1), (8, 8), (8, 8), fill=mean_color, p=0.2),
                album.Normalize(MEAN, STD),
                album.ToTensorV2(),
            ]
        )

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, row):
        return self.transform(image=self.images[row])["image"], self.labels[row]


class Network(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = ResNet9(bias=True, relu_before_add=True, dropout=0.05)
        self.accuracy = MulticlassAccuracy(10)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        logits = self.net(images)
        loss = F.cross_entropy(logits, labels)
        self.accuracy(logits, labels)
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=True)
        self.log("train_accuracy", self.accuracy, prog_bar=True, on_step=True, on_epoch=True)
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-3, weight_decay=1e-4)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Clock(Callback):
    def __init__(self):
        self.training = []

    def on_train_epoch_start(self, *_):
        self.start = time.perf_counter()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if batch_idx + 1 == trainer.num_training_batches:
            self.training.append(time.perf_counter() - self.start)


def main(batch_size, batches, epochs, workers):
    warnings.simplefilter("ignore")
    clock = Clock()
    images = Images(batch_size * batches)
    loader = DataLoader(images, batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    trainer = Trainer(
        max_epochs=epochs,
        callbacks=[clock, LearningRateMonitor("step")],
        logger=TensorBoardLogger(tempfile.mkdtemp()),
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(Network(), loader)
    print(json.dumps({"training": clock.training, "images": [batch_size * batches] * epochs, **memory()}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
