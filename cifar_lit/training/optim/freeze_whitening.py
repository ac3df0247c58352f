"""Freeze whitening layers after the first epochs, which saves the most expensive backward pass."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.optim import Optimizer

from cifar_lit.errors import InputError
from cifar_lit.models.whitening import whitening_layers


class FreezeWhitening(Callback):
    """Train the biases of whitening layers in the first epochs only.

    Afterwards, nothing before the first trained convolution needs a gradient, so neither does the input of that
    convolution, the largest of the network.

    Args:
        after_epochs: Number of epochs in which they are trained.

    Source: K. Jordan 2024, arXiv:2404.00498, section 3.1.
    """

    def __init__(self, after_epochs: int = 3) -> None:
        if after_epochs < 0:
            raise InputError(f"FreezeWhitening: after_epochs must be at least 0, got {after_epochs}")
        self.after_epochs = after_epochs

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freeze them if training resumes after that many epochs."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freeze them when due."""
        if trainer.current_epoch >= self.after_epochs and not _is_distributed(trainer):
            _train_biases(pl_module, False)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Drop the gradients of frozen biases under DDP, where every parameter needs one."""
        if trainer.current_epoch >= self.after_epochs and _is_distributed(trainer):
            for layer in whitening_layers(pl_module):
                if layer.bias is not None:
                    layer.bias.grad = None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Unfreeze the biases for a later run."""
        _train_biases(pl_module, True)


def _is_distributed(trainer: Trainer) -> bool:
    return not isinstance(trainer.strategy, SingleDeviceStrategy)  # also for one process with --trainer.strategy ddp


def _train_biases(pl_module: LightningModule, trained: bool) -> None:
    for layer in whitening_layers(pl_module):
        if layer.bias is not None:
            layer.bias.requires_grad_(trained)
