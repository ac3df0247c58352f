"""What is trained: any network, between pixels and logits, with its loss, optimizer and schedule."""

import sys
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from cifar_lit.data.batches import Batch
from cifar_lit.data.datamodule import ImageDataModule
from cifar_lit.errors import InputError
from cifar_lit.lean_steps import LeanModule
from cifar_lit.metrics import LossAndAccuracy, RecentBatches, of_each_process
from cifar_lit.models import PixelNormalization
from cifar_lit.models.evaluated import judged_logits
from cifar_lit.models.head import check_fit
from cifar_lit.models.whitening import fit_whitening, whitening_layers
from cifar_lit.optimization.configured import check_long_enough, configured_optimizer, configured_schedule
from cifar_lit.randomness import reseed, run_seed

_MOST_BATCHES = 1000  # that are kept uncounted, where nothing is logged
_TRAINING = ("train", "recent")  # counters that go on from step to step
_WHITENING_IMAGES = 5000  # as in airbench: 4.8 million patches, whose covariance a few numbers describe


class Classifier(LeanModule):
    """A network that is trained to tell classes apart: uint8 pixels in, logits out.

    Args:
        net: The network: a class by its name (ResNet9, ResNet18, WideResNet, TinyNet), or any torch.nn.Module, or
            function that returns one, by its import path. It gets normalised images (N, 3, H, W) and gives logits.
        optimizer: The optimizer, by its class, without its parameters.
        lr_scheduler: The learning-rate schedule, by its class, without its optimizer. One that takes ``total_steps``
            (OneCycleLR) is told the run's number of steps and moves every step; any other moves every epoch.
        lr: Peak learning rate, in place of the optimizer's ``lr`` and of OneCycleLR's ``max_lr``; where the optimizer
            has several rates, of its first group, and the others stay in proportion.
        label_smoothing: Share of the target that is spread over all classes. Szegedy et al. 2015, arXiv:1512.00567.
        flip_tta: Average the logits of each image and its mirror image when evaluating.
        translate_tta: Average the logits over the image and the same moved by so many pixels up and left, and down and
            right, when evaluating (with flip_tta: and their mirror images); 0 for none.
        channels_last: Keep images and weights in channels-last order, which is faster on CPUs and GPUs.
        compile: Compile the network with torch.compile (pays on GPUs).
        num_classes: Number of classes; set from the data.
        class_names: Names of the classes; set from the data.
        image_size: Height and width of the images; set from the data.
        mean: Mean of each channel, in [0, 1]; set from the data.
        std: Standard deviation of each channel, in [0, 1]; set from the data.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr: float | None = None,
        label_smoothing: float = 0.0,
        flip_tta: bool = False,
        translate_tta: int = 0,
        channels_last: bool = True,
        compile: bool = False,
        num_classes: int = 10,
        class_names: Sequence[str] = (),
        image_size: Sequence[int] = (32, 32),
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.25, 0.25, 0.25),
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise InputError(f"model.label_smoothing must be at least 0 and below 1, got {label_smoothing}")
        if not 0 <= translate_tta < min(image_size):
            side = min(image_size)
            raise InputError(
                f"model.translate_tta must be at least 0 and below the images' {side}, got {translate_tta}"
            )
        self.save_hyperparameters()
        self.net = net
        self.normalize = PixelNormalization(mean, std)
        self.optimizer, self.lr_scheduler, self.lr = optimizer, lr_scheduler, lr
        self.label_smoothing = label_smoothing
        self.flip_tta, self.translate_tta = flip_tta, translate_tta
        self.num_classes = num_classes
        self.class_names = list(class_names) or [str(label) for label in range(num_classes)]
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._compile = compile
        self.example_input_array = torch.zeros(2, 3, *image_size, dtype=torch.uint8)  # for the model summary
        # In a dict, so that the model summary shows the network and not the counters
        self._tallies = {name: LossAndAccuracy() for name in ("train", "recent", "evaluated")}
        self._batches = RecentBatches()  # of training, not yet in the counters
        self._loaded_step = self._loaded_epoch = 0
        self._loaded_counts: list[dict[str, Any]] | None = None  # of each process, of the epoch so far
        self.temperature = 1.0  # that logits are divided by for a calibrated confidence; kept in the checkpoint
        self.judges_loss = True  # whether a loss that is not finite ends training
        self._broken_at: int | None = None

    @property
    def trained_step(self) -> int:
        """How many steps the weights were trained: of this run, or of the checkpoint that is being judged."""
        return self.global_step if self.trainer.state.fn == "fit" or not self._loaded_step else self._loaded_step

    @property
    def trained_epoch(self) -> int:
        """The epoch that the weights are from, beginning with 1; 0 for fresh ones."""
        if self.trainer.state.fn == "fit":
            return self.current_epoch + 1
        return self._loaded_epoch or self.current_epoch

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remembers how long the checkpoint was trained; Lightning does not when it only validates or tests."""
        self._loaded_step, self._loaded_epoch = checkpoint["global_step"], checkpoint["epoch"] + 1
        self._loaded_counts = checkpoint.get("counts") if self.trainer.state.fn == "fit" else None
        self.temperature = checkpoint.get("temperature", 1.0)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits float (N, classes) of pixels (N, 3, H, W), 0 to 255."""
        return self.net(self.inputs_of(pixels))

    def inputs_of(self, pixels: Tensor) -> Tensor:
        """What the network takes, float (N, 3, H, W), of pixels (N, 3, H, W), 0 to 255."""
        return self.normalize(pixels).contiguous(memory_format=self._memory_format)

    def setup(self, stage: str) -> None:
        """Prepares the network for its device, after checking that its head fits the data."""
        example = self.example_input_array.to(self.device)
        data = getattr(self._trainer, "datamodule", None)
        sizes = data.sizes if stage == "fit" and isinstance(data, ImageDataModule) else [tuple(example.shape[2:])]
        for height, width in sizes:
            check_fit(self.net, self.inputs_of(example.new_zeros(2, 3, height, width)), self.num_classes)
        self.net.to(memory_format=self._memory_format)
        if self._compile:
            self.net.compile()  # in place, so that the weights keep their names

    def on_fit_start(self) -> None:
        """Fits the filters that are computed from the data, unless a checkpoint has them; forgets an earlier search."""
        self._batches, self._broken_at = RecentBatches(), None
        self._reset_tallies(*_TRAINING)
        if whitening_layers(self.net) and self.trainer.ckpt_path is None:
            if self.trainer.datamodule is None:
                raise InputError(
                    "a whitening layer is fitted to the images of a data module: fit(model, datamodule=...)"
                )
            pixels = self.trainer.datamodule.train_set.sample(_WHITENING_IMAGES)
            fit_whitening(self.net, [self.inputs_of(block.to(self.device)) for block in pixels.split(256)])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch; every ``log_every_n_steps`` steps the mean loss since the last time is logged."""
        logits = self(batch.pixels)
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)
        self._batches.add(self.global_step, loss, logits, batch.labels)
        if self._steps_now(batch_idx) and (self.global_step + 1) % (self.trainer.log_every_n_steps or sys.maxsize) == 0:
            self._count_batches()
            self._check_unbroken()
            recent_loss, _ = self._tallies["recent"].compute()
            self._log_training({"train/loss_step": recent_loss}, self.global_step + 1, prog_bar=True)
            self._tallies["recent"].reset()
        elif len(self._batches) == _MOST_BATCHES:
            self._count_batches()
        return loss

    def _steps_now(self, batch_idx: int) -> bool:
        """Whether the optimizer steps after this batch, and does not wait for the gradients of more."""
        done = batch_idx + 1
        return done % self.trainer.accumulate_grad_batches == 0 or done == self.trainer.num_training_batches

    def _log_training(self, metrics: dict[str, Tensor], step: int, prog_bar: bool = False) -> None:
        """Logs at once: Lightning would after the step's or the epoch's checkpoint, and a run that goes on from that
        would lack it."""
        self.log_dict(metrics, prog_bar=prog_bar, logger=False)
        for logger in self.trainer.loggers:
            logger.log_metrics({name: float(value) for name, value in metrics.items()}, step)

    def _count_batches(self) -> None:
        """Moves the batches that were trained on into the counters."""
        if self._batches:
            if self._broken_at is None:
                self._broken_at = self._batches.first_broken()
            counts = self._batches.take()
            self._tallies["train"].update(*counts)
            self._tallies["recent"].update(*counts)

    def on_train_start(self) -> None:
        """Goes on counting where a checkpoint stopped; checks that a resumed schedule is long enough."""
        counts = self._loaded_counts
        if counts is not None and len(counts) == self.trainer.world_size:
            own = counts[self.global_rank]
            self._batches.load_state_dict(own["batches"], self.device)
            for name in _TRAINING:
                self._tallies[name].load(own[name])
        self._loaded_counts = None
        check_long_enough(self.trainer)

    def on_validation_epoch_start(self) -> None:
        """Starts counting on the network's device."""
        self._reset_tallies("evaluated")

    def on_test_epoch_start(self) -> None:
        """Starts counting on the network's device."""
        self._reset_tallies("evaluated")

    def _reset_tallies(self, *names: str) -> None:
        for name in names:
            self._tallies[name].to(self.device).reset()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Makes what the network draws (dropout) a function of (seed, epoch, batch), whatever else has drawn before."""
        reseed(run_seed(), self.current_epoch, batch_idx, self.global_rank)

    def on_train_epoch_end(self) -> None:
        """Logs the epoch's training loss and accuracy, of the network as it was at each step."""
        self._count_batches()
        self._check_unbroken()
        loss, accuracy = self._tallies["train"].compute()
        self._log_training({"train/loss": loss, "train/accuracy": accuracy}, self.trained_step)
        self._tallies["train"].reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Logits, labels and data-set indices of a batch, for the callbacks that watch."""
        logits = self.evaluate(batch.pixels)
        judged = RecentBatches()
        judged.add(batch_idx, F.cross_entropy(logits, batch.labels), logits, batch.labels)
        self._tallies["evaluated"].update(*judged.take())
        return {"logits": logits, "labels": batch.labels, "indices": batch.indices}

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """As ``validation_step``."""
        return self.validation_step(batch, batch_idx)

    def on_validation_start(self) -> None:
        """Refuses to judge, and so to keep, a network whose training has broken down."""
        self._check_unbroken()

    def on_validation_epoch_end(self) -> None:
        """Logs the epoch's validation loss and accuracy."""
        self._log_epoch("val", "evaluated")

    def on_test_epoch_end(self) -> None:
        """Logs the test loss and accuracy."""
        self._log_epoch("test", "evaluated")

    def evaluate(self, pixels: Tensor) -> Tensor:
        """Logits float32 (N, classes) as they are judged: averaged over views of the image, if so chosen."""
        return judged_logits(self, pixels, self.flip_tta, self.translate_tta)

    def _log_epoch(self, split: str, name: str) -> None:
        loss, accuracy = self._tallies[name].compute()
        self.log_dict({f"{split}/loss": loss, f"{split}/accuracy": accuracy}, prog_bar=True)
        self.log("step", float(self.trained_step))  # Lightning's x-axis, which would be 0 in validate and test
        self._tallies[name].reset()

    def _check_unbroken(self) -> None:
        if self._broken_at is None:
            self._broken_at = self._batches.first_broken()
        if self.judges_loss and self._broken_at is not None:
            raise InputError(
                f"the loss or the weights became NaN or infinite at step {self._broken_at}; training stops, and the"
                " checkpoints saved before that are whole. Try a lower learning rate (lr_find suggests one),"
                " trainer.gradient_clip_val: 1.0, or trainer.precision: 32-true"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what is counted so far; keeps a broken network from replacing a good one on disk."""
        if self._broken_at is None:
            self._broken_at = self._batches.first_broken()
        if self._broken_at is None and not all(bool(weight.isfinite().all()) for weight in self.parameters()):
            self._broken_at = self.global_step - 1  # the step that they were last changed in
        checkpoint["temperature"] = self.temperature
        # Uncounted, since float sums in other groups would round otherwise
        own: dict[str, Any] = {name: self._tallies[name].sums() for name in _TRAINING}
        own |= {"batches": self._batches.state_dict(), "broken_at": self._broken_at}
        everyone = of_each_process(own) if self.trainer.state.fn == "fit" else [own]
        self._broken_at = next((one["broken_at"] for one in everyone if one["broken_at"] is not None), None)
        self._check_unbroken()  # in all processes alike: none may wait for the others here
        if self.trainer.state.fn == "fit":
            checkpoint["counts"] = everyone

    def configure_optimizers(self) -> Any:
        """The optimizer and, if there is one, its schedule, told the run's number of steps where it takes that."""
        weights = [weight for weight in self.parameters() if weight.requires_grad]
        optimizer = configured_optimizer(self.optimizer, weights, self.lr, self.trainer)
        if self.lr_scheduler is None:
            return optimizer
        schedule = configured_schedule(self.lr_scheduler, optimizer, self.lr, self.trainer)
        return {"optimizer": optimizer, "lr_scheduler": schedule}
