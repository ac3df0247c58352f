"""Freeze layers of a network in some epochs of a run."""

import re
from collections.abc import Sequence

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from cifar_lit.errors import InputError
from cifar_lit.training.pretrained import last_layer

_MAX_NAMED = 8  # parameters in an error


def _is_distributed(trainer: Trainer) -> bool:
    return not isinstance(trainer.strategy, SingleDeviceStrategy)  # also for one process with --trainer.strategy ddp


class FreezeLayers(Callback):
    """Keep the weights of some layers as they are in the first epochs; their batch norms keep their statistics, too.

    The weights stay in the optimizer, which leaves parameters without gradients as they are.

    Args:
        names: Regular expression for the names of weights to freeze, such as ``^(conv1|bn1|layer[12])\\.``; by default
            all but those of the last layer.
        until_epoch: Epoch in which they begin to train, from 0; null to keep them frozen for the whole run.
    """

    _frozen: Sequence[nn.Parameter] = ()

    def __init__(self, names: str | None = None, until_epoch: int | None = 3) -> None:
        try:
            self._pattern = None if names is None else re.compile(names)
        except re.error as error:
            raise InputError(f"FreezeLayers: names is not a regular expression: {error}") from error
        if until_epoch is not None and until_epoch < 1:
            raise InputError(f"FreezeLayers: until_epoch must be at least 1, got {until_epoch}; remove the callback")
        self._until_epoch = until_epoch

    def is_frozen(self, epoch: int) -> bool:
        """Return whether the weights are frozen in this epoch, from 0."""
        return self._until_epoch is None or epoch < self._until_epoch

    def parameters(self, pl_module: LightningModule) -> Sequence[nn.Parameter]:
        """Return the parameters to freeze; those that are never trained stay so.

        Raises:
            InputError: If no names match, or no other parameters would be trained.
        """
        net = pl_module.get_submodule("model.net")
        named, head = dict(net.named_parameters()), last_layer(net)
        found = [
            parameter
            for name, parameter in named.items()
            if (name.rpartition(".")[0] != head if self._pattern is None else self._pattern.search(name))
        ]
        if not found:
            examples = ", ".join(list(named)[:: -(-len(named) // _MAX_NAMED)])
            raise InputError(f"FreezeLayers: names matches no weight of the network, such as {examples}")
        if len(found) == len(named) and self._until_epoch is None:
            raise InputError("FreezeLayers: names matches all weights; leave some to train, or set until_epoch")
        return found

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the parameters."""
        self._frozen = [parameter for parameter in self.parameters(pl_module) if parameter.requires_grad]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freeze them if training resumes within an epoch."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freeze or unfreeze the weights (not under DDP, where each needs a gradient) and batch norms' statistics."""
        is_frozen = self.is_frozen(trainer.current_epoch)
        self._train(not is_frozen or _is_distributed(trainer))
        frozen = set(map(id, self._frozen))
        for module in pl_module.modules():
            trained = {id(weight) for weight in module.parameters() if id(weight) in frozen or weight.requires_grad}
            if isinstance(module, _BatchNorm) and trained and trained <= frozen:
                module.train(not is_frozen)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Drop the gradients of frozen parameters under DDP."""
        if _is_distributed(trainer) and self.is_frozen(trainer.current_epoch):
            for parameter in self._frozen:
                parameter.grad = None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Unfreeze them for a later run."""
        self._train(True)

    def _train(self, trained: bool) -> None:
        for parameter in self._frozen:
            parameter.requires_grad_(trained)
