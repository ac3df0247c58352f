"""The LightningModule: a network between pixels and logits, with its loss, optimizer and schedule."""

import sys
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torchmetrics import CatMetric

from cifar_lit.data.batches import Batch
from cifar_lit.data.datamodule import ImageDataModule
from cifar_lit.errors import InputError
from cifar_lit.evaluation.calibration import TemperatureSweep
from cifar_lit.evaluation.ood import FALSE_ALARM_RATE, SCORES
from cifar_lit.inference.images import Fit, Interpolation
from cifar_lit.inference.model import InferenceModel
from cifar_lit.models import PixelNormalization
from cifar_lit.models.trial import try_network
from cifar_lit.models.whitening import fit_whitening, whitening_layers
from cifar_lit.randomness import reseed, run_seed
from cifar_lit.training.initial_weights import initialize
from cifar_lit.training.loss import ClassWeights, TrainingLoss, divergence
from cifar_lit.training.metrics import gather_objects, loss_and_accuracy
from cifar_lit.training.optim.configure import check_long_enough, configure
from cifar_lit.training.small_convolutions import speed_up_small_convolutions

_TRAINING_METRICS = ("train", "recent")  # continued when a run is resumed
_LOGS_PER_SHORT_EPOCH = 10
_WHITENING_IMAGES = 5000  # as in airbench: 4.8 million patches


class Classifier(LightningModule):
    """An image classifier in training: uint8 pixels in, logits out.

    Args:
        net: The network: a class by its name (ResNet9, ResNet18, WideResNet, TinyNet), or the import path of any
            torch.nn.Module, or of a function that returns one. It takes normalized images (N, 3, H, W) and returns
            logits.
        optimizer: The optimizer's class, without its parameters.
        lr_scheduler: The learning-rate schedule's class, without its optimizer. One that takes ``total_steps``
            (OneCycleLR) gets the run's number of steps and is updated every step, any other every epoch.
        lr: Peak learning rate; replaces the optimizer's ``lr`` and OneCycleLR's ``max_lr``. If the optimizer has
            several rates, this sets that of the first group and scales the others in proportion.
        layer_decay: Factor of the learning rate from each block of layers to the one before; 0.7 suits fine-tuning.
        init_from: Checkpoint, or a Space's folder ``bundle``, whose weights training starts from, where they fit.
        label_smoothing: Fraction of the target spread over all classes. Szegedy et al. 2015, arXiv:1512.00567.
        class_weights: Weight of each class in the training loss; ``balanced``: inversely proportional to its images.
        focal_gamma: Exponent of the focal loss, which down-weights images already classified correctly; 2 is usual.
        flip_tta: Test-time augmentation: average the logits of each image and its mirror image.
        translate_tta: Test-time augmentation: average the logits of the image and of two copies moved by this many
            pixels (with flip_tta: and their mirror images); 0 for none.
        adaptive_tta: Average the views only of images whose most probable class has a probability below 0.7.
        channels_last: Keep images and weights in channels-last order, which is faster on CPUs and GPUs.
        compile: Compile the network with torch.compile (pays off on GPUs).
        num_classes, class_names, image_size, fit, interpolation, mean, std: Set from the data module's properties.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr: float | None = None,
        layer_decay: float = 1.0,
        init_from: str | None = None,
        label_smoothing: float = 0.0,
        class_weights: ClassWeights = None,
        focal_gamma: float = 0.0,
        flip_tta: bool = False,
        translate_tta: int = 0,
        adaptive_tta: bool = False,
        channels_last: bool = True,
        compile: bool = False,
        num_classes: int = 10,
        class_names: Sequence[str] = (),
        image_size: Sequence[int] = (32, 32),
        fit: Fit = "crop",
        interpolation: Interpolation = "bilinear",
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.25, 0.25, 0.25),
    ) -> None:
        super().__init__()
        side = min(image_size)
        if not 0 <= translate_tta < side:
            raise InputError(f"model.translate_tta must be at least 0 and less than {side}, got {translate_tta}")
        self.save_hyperparameters()
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        normalize = PixelNormalization(mean, std)
        self.model = InferenceModel(normalize, net, flip_tta, translate_tta, adaptive_tta, memory_format)
        self.optimizer, self.lr_scheduler, self.lr, self.layer_decay = optimizer, lr_scheduler, lr, layer_decay
        self._loss = TrainingLoss(num_classes, label_smoothing, class_weights, focal_gamma)
        self.class_names = list(class_names) or [str(label) for label in range(num_classes)]
        self.num_classes, self._compile, self._init_from = num_classes, compile, init_from
        self.example_input_array = torch.zeros(2, 3, *image_size, dtype=torch.uint8)  # for the model summary
        # In a dict, which keeps them out of the state dict: that would hold the first process's metrics only
        names = (*_TRAINING_METRICS, "evaluated")
        self._metrics = {name: loss_and_accuracy(num_classes, averages=name == "evaluated") for name in names}
        self._calibrations = {"evaluated": TemperatureSweep()}
        self._ood_scores = {"evaluated": CatMetric(nan_strategy="disable")}
        self._loaded_step = self._loaded_epoch = 0
        self._loaded_metrics: list[dict[str, Any]] | None = None  # of each process, of the epoch so far
        # Chosen in validation and stored in the checkpoint; see ``cifar_lit.inference.bundle.Recipe``
        self.temperature = 1.0
        self.ood_thresholds: dict[str, float] = {}  # by score
        self.stops_at_nan = True  # whether a loss that is not finite ends training
        self._nan_step: int | None = None

    @property
    def net(self) -> nn.Module:
        """The network, without its preprocessing."""
        return self.model.net

    @property
    def calibration(self) -> TemperatureSweep:
        """Calibration on the images evaluated so far."""
        return self._calibrations["evaluated"]

    @property
    def trained_step(self) -> int:
        """Number of optimizer steps that the weights were trained for, in this run or the loaded checkpoint."""
        return self.global_step if self.trainer.state.fn == "fit" or not self._loaded_step else self._loaded_step

    @property
    def trained_epoch(self) -> int:
        """Epoch that the weights come from, counted from 1; 0 if untrained."""
        return self.current_epoch + 1 if self.trainer.state.fn == "fit" else self._loaded_epoch or self.current_epoch

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits float (N, classes) for pixels (N, 3, H, W) in [0, 255], without test-time augmentation."""
        return self.net(self.preprocess(pixels))

    def preprocess(self, pixels: Tensor) -> Tensor:
        """Return the network's input, float (N, 3, H, W), for pixels (N, 3, H, W) in [0, 255]."""
        return self.model.preprocess(pixels)

    def setup(self, stage: str) -> None:
        """Try the network on images of every size, and prepare it for its device."""
        example = self.example_input_array.to(self.model.normalize.mean.device)  # self.device is set too early
        data = self.trainer.datamodule if stage == "fit" else None
        sizes = data.sizes if isinstance(data, ImageDataModule) else [tuple(example.shape[2:])]
        smallest = 0 if data is None else min(2, data.batch_size)  # the sampler leaves out a single last image
        for height, width in sizes:
            inputs = self.preprocess(example.new_zeros(2, 3, height, width))
            try_network(self.net, inputs, self.num_classes, smallest)
        if data is not None:
            self._loss.set_labels(data.train_set.labels)
        self.net.to(memory_format=self.model.memory_format)
        if self._compile:
            self.net.compile()  # in place: the weights keep their names
        elif stage == "fit":
            speed_up_small_convolutions(self.net)

    # Training

    def on_fit_start(self) -> None:
        """Take the weights of ``init_from``, or compute the whitening filters, unless a checkpoint provides them."""
        self._nan_step = None
        self._reset_metrics(*_TRAINING_METRICS)
        if self._init_from is not None and self.trainer.ckpt_path is None:
            rank_zero_info(initialize(self.net, self._init_from))
        elif whitening_layers(self.net) and self.trainer.ckpt_path is None:
            if self.trainer.datamodule is None:
                raise InputError("a whitening layer needs the images of a data module: fit(model, datamodule=...)")
            pixels = self.trainer.datamodule.train_set.sample(_WHITENING_IMAGES)
            fit_whitening(self.net, [self.preprocess(block.to(self.device)) for block in pixels.split(256)])

    def on_train_start(self) -> None:
        """Continue the metrics of a checkpoint; check that a restored schedule is long enough; log often enough."""
        batches = self.trainer.num_training_batches
        if batches < self.trainer.log_every_n_steps:
            self.trainer.log_every_n_steps = max(1, int(batches) // _LOGS_PER_SHORT_EPOCH)
        loaded, self._loaded_metrics = self._loaded_metrics, None
        if loaded is not None and len(loaded) == self.trainer.world_size:
            for name in _TRAINING_METRICS:
                self._metrics[name].load_state_dict(loaded[self.global_rank][name])
                self._metrics[name].to(self.device)
        check_long_enough(self.trainer)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make random numbers such as dropout's a function of (seed, epoch, batch)."""
        reseed(run_seed(), self.current_epoch, batch_idx, self.global_rank)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch; log the mean loss every ``log_every_n_steps`` steps."""
        logits = self(batch.pixels)
        loss = self._loss(logits, batch.labels)
        for name in _TRAINING_METRICS:
            self._update_metrics(name, loss, logits, batch.labels)
        if self._steps_now(batch_idx) and (self.global_step + 1) % (self.trainer.log_every_n_steps or sys.maxsize) == 0:
            self._check_finite()
            recent = self._metrics["recent"].compute()
            self._log_now({"train/loss_step": recent["loss"]}, self.global_step + 1, prog_bar=True)
            self._reset_metrics("recent")
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the epoch's training loss and accuracy, each batch's with the weights of its step."""
        self._check_finite()
        metrics = self._metrics["train"].compute()
        self._log_now({f"train/{name}": value for name, value in metrics.items()}, self.trained_step)
        self._reset_metrics("train")

    def _steps_now(self, batch_idx: int) -> bool:
        """Whether the optimizer steps after this batch, rather than accumulate more gradients."""
        batches = batch_idx + 1
        return batches % self.trainer.accumulate_grad_batches == 0 or batches == self.trainer.num_training_batches

    def _log_now(self, metrics: dict[str, Tensor], step: int, prog_bar: bool = False) -> None:
        """Log immediately: Lightning logs only after the checkpoint, so a run resumed from it would miss the value."""
        self.log_dict(metrics, prog_bar=prog_bar, logger=False)
        for logger in self.trainer.loggers:
            logger.log_metrics({name: float(value) for name, value in metrics.items()}, step)

    def _update_metrics(self, name: str, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        classes = labels.argmax(1) if labels.ndim == 2 else labels  # for mixed images, the label with the larger weight
        self._metrics[name].update(loss=loss.detach().float(), count=len(logits), preds=logits.detach(), target=classes)

    def _reset_metrics(self, *names: str) -> None:
        for name in names:
            self._metrics[name].to(self.device).reset()

    # Evaluation

    def on_validation_epoch_start(self) -> None:
        """Reset the metrics; raise if training diverged, before the network is evaluated and saved as the best."""
        self._check_finite()
        self._reset_metrics("evaluated")
        self._ood_scores["evaluated"].to(self.device).reset()
        self.calibration.to("cpu" if self.device.type == "mps" else self.device).reset()  # MPS has no float64

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return logits, labels and dataset indices of a batch, for the callbacks."""
        logits = self.evaluate(batch.pixels)
        self._update_metrics("evaluated", F.cross_entropy(logits, batch.labels), logits, batch.labels)
        self.calibration.update(logits.to(self.calibration.device), batch.labels.to(self.calibration.device))
        self._ood_scores["evaluated"].update(torch.stack([score(logits) for score in SCORES.values()], 1))
        return {"logits": logits, "labels": batch.labels, "indices": batch.indices}

    on_test_epoch_start = on_validation_epoch_start
    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Log the metrics; choose the temperature with the lowest loss, and the thresholds."""
        self.on_test_epoch_end()
        scores = self._ood_scores["evaluated"]
        if not self.trainer.sanity_checking and self.calibration.update_called and scores.update_called:
            self.temperature = self.calibration.best_temperature
            thresholds = torch.as_tensor(scores.compute()).view(-1, len(SCORES)).quantile(FALSE_ALARM_RATE, dim=0)
            self.ood_thresholds = dict(zip(SCORES, thresholds.tolist(), strict=True))

    def on_test_epoch_end(self) -> None:
        """Log the metrics."""
        split, metrics = "test" if self.trainer.testing else "val", self._metrics["evaluated"].compute()
        recalls = zip(self.class_names, metrics.pop("recall"), strict=True)  # for checkpoints and early stopping
        self.log_dict({f"{split}/recall/{name}": value for name, value in recalls}, logger=False)
        self.log_dict({f"{split}/{name}": value for name, value in metrics.items()}, prog_bar=True)
        self.log("step", float(self.trained_step))  # Lightning's x-axis, which would be 0 in validate and test

    def evaluate(self, pixels: Tensor) -> Tensor:
        """Return logits float32 (N, classes), with test-time augmentation if configured."""
        return self.model(pixels)

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add temperature, thresholds and metrics; raise rather than save a diverged network over a good one."""
        self._check_finite(weights=True)
        checkpoint["temperature"], checkpoint["ood_thresholds"] = self.temperature, self.ood_thresholds
        if self.trainer.state.fn == "fit":
            own = {name: self._metrics[name].state_dict() for name in _TRAINING_METRICS}
            checkpoint["metrics"] = gather_objects(own)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember how long the checkpoint was trained, which Lightning restores only in ``fit``."""
        self._loaded_step, self._loaded_epoch = checkpoint["global_step"], checkpoint["epoch"] + 1
        self._loaded_metrics = checkpoint.get("metrics") if self.trainer.state.fn == "fit" else None
        self.temperature, self.ood_thresholds = checkpoint.get("temperature", 1.0), checkpoint.get("ood_thresholds", {})

    def _check_finite(self, weights: bool = False) -> None:
        """Raise InputError, in every process, if the loss (or the weights) of any is NaN or infinite."""
        if not self.stops_at_nan:
            return
        mean_loss: Any = self._metrics["train"]["loss"]
        finite = bool(mean_loss.total.isfinite())
        finite = finite and (not weights or all(bool(weight.isfinite().all()) for weight in self.parameters()))
        if self._nan_step is None and not finite:
            self._nan_step = self.global_step
        steps = gather_objects(self._nan_step) if weights else [self._nan_step]
        if known := [step for step in steps if step is not None]:
            raise divergence(known[0])

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule."""
        return configure(self.optimizer, self.lr_scheduler, self.lr, self.layer_decay, self, self.trainer)
