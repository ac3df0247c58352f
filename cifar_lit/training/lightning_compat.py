"""All uses of Lightning's private attributes, each with its reason and the upstream issue.

Written for lightning 2.6.6; an upgrade has to be checked against this file alone.
"""

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.utilities.logger import _convert_params, _flatten_dict, _sanitize_params
from lightning.pytorch import Trainer
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.tuner.lr_finder import _LRFinder
from torch import Tensor

LRFinderResult = _LRFinder  # what Tuner.lr_find returns; the class has no public name


def mark_epoch_as_complete(trainer: Trainer) -> None:
    """Mark the fit loop as not restarting mid-epoch.

    With max_steps, Lightning treats a run resumed at the end of an epoch as if resumed mid-epoch; after a mid-epoch
    restart, it does not step ReduceLROnPlateau at the end of that epoch. The fit loop's own property setter would also
    change its child loops, hence the base class's setter.
    https://github.com/Lightning-AI/pytorch-lightning/issues/19617
    """
    _Loop.restarting.fset(trainer.fit_loop, False)


def is_between_epochs(trainer: Trainer) -> bool:
    """Whether the last epoch that began has ended.

    https://github.com/Lightning-AI/pytorch-lightning/issues/19617
    """
    epochs: Any = trainer.fit_loop.epoch_progress.current
    return bool(epochs.ready == epochs.processed)


def validates_in_this_epoch(trainer: Trainer) -> bool:
    """Whether ``check_val_every_n_epoch`` schedules validation in this epoch, which has no public API."""
    return bool(trainer.fit_loop.epoch_loop._should_check_val_epoch())


def dump_checkpoint(trainer: Trainer, weights_only: bool | None = False) -> dict[str, Any]:
    """Return what ``save_checkpoint`` would write.

    The public method only writes to a file; a copy in memory is needed to stop during a validation.
    https://github.com/Lightning-AI/pytorch-lightning/issues/9567
    """
    return trainer._checkpoint_connector.dump_checkpoint(bool(weights_only))


def restore_callback_metrics(trainer: Trainer, metrics: Mapping[str, Tensor]) -> None:
    """Restore ``trainer.callback_metrics``, monitored by schedules and early stopping but not checkpointed.

    https://github.com/Lightning-AI/pytorch-lightning/issues/14699
    """
    trainer._logger_connector._callback_metrics.update(metrics)


def cluster_environment(trainer: Trainer) -> ClusterEnvironment | None:
    """Return the cluster environment, for SLURM's requeue signal, which Lightning does not expose.

    https://github.com/Lightning-AI/pytorch-lightning/issues/1455
    """
    environment: ClusterEnvironment | None = trainer._accelerator_connector.cluster_environment
    return environment


def clear_received_sigterm(trainer: Trainer) -> None:
    """Clear a SIGTERM recorded by Lightning, which would exit without saving.

    https://github.com/Lightning-AI/pytorch-lightning/issues/1455
    """
    trainer._signal_connector.received_sigterm = False


def flatten_hyperparameters(params: dict[str, Any] | Namespace) -> dict[str, Any]:
    """Return hyperparameters as Lightning's TensorBoardLogger flattens them.

    Its own ``log_hyperparams`` writes one metric without a group, which cannot be that of a sub-run.
    """
    flat: dict[str, Any] = _sanitize_params(_flatten_dict(_convert_params(params)))
    return flat
