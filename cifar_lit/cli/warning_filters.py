"""Filters for third-party warnings that are not actionable here, each with its reason."""

import logging
import os
import warnings

_WARNINGS = {
    # lightning 2.6.6 under torch 2.15; nothing to do until the next lightning
    r"`isinstance\(treespec, LeafSpec\)` is deprecated": FutureWarning,
    # the settings of the run's own folder are kept, wherever it was moved
    r"The dirpath has changed from": UserWarning,
    # the size in memory is that of the float32 weights, which is right for mixed precision
    r"Precision .* is not supported by the model summary": UserWarning,
    # whole batches are read at once, for which no worker is faster than one
    r".*does not have many workers which may be a bottleneck": UserWarning,
    # each epoch is logged anyway
    r"The number of training batches .* is smaller than the logging interval": UserWarning,
    # a run that goes on writes where it began
    r"Checkpoint directory .* exists and is not empty": UserWarning,
    # where neither the data nor the program has a validation split, the user has chosen so
    r"You defined a `validation_step` but have no `val_dataloader`": UserWarning,
    r"Total length of `list` across ranks is zero": UserWarning,
    # torchmetrics has summed over the processes before the value is logged
    r"It is recommended to use `self.log\(.*sync_dist=True": UserWarning,
    # which then holds the averaged weights, as it should
    r"You're using the WeightAveraging callback, but loading a checkpoint outside": UserWarning,
    # lightning 2.6.6 under torch 2.15, as above
    r"torch.distributed.nn.functional.all_gather is deprecated": FutureWarning,
    # the finder puts a scheduler of its own before the optimizer's first step
    r"Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`": UserWarning,
}


def ignore_third_party_warnings() -> None:
    """Ignore warnings and log lines that a user of this program cannot act on."""
    # jsonargparse's to Lightning, about its next version
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    for message, category in _WARNINGS.items():
        warnings.filterwarnings("ignore", message, category)
    # advertisements for other products
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_tip)


def _is_no_tip(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()
