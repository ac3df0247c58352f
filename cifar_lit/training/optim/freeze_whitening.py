"""Freeze whitening layers after the first epochs."""

from collections.abc import Sequence

from lightning.pytorch import LightningModule
from torch import nn

from cifar_lit.errors import InputError
from cifar_lit.models.whitening import whitening_layers
from cifar_lit.training.optim.freeze_layers import FreezeLayers


class FreezeWhitening(FreezeLayers):
    """Train the biases of whitening layers in the first epochs only, which saves the most expensive backward pass.

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

    def is_frozen(self, epoch: int) -> bool:
        """Return whether they were trained in ``after_epochs`` epochs before."""
        return epoch >= self.after_epochs

    def parameters(self, pl_module: LightningModule) -> Sequence[nn.Parameter]:
        """Return the biases of whitening layers."""
        return [layer.bias for layer in whitening_layers(pl_module) if isinstance(layer.bias, nn.Parameter)]
