"""Filters for third-party warnings that are not actionable here, each with its reason."""

import logging
import os
import re
import sys
import threading
import warnings

_WARNINGS = {
    # lightning 2.6.6 with torch 2.15; nothing to do until the next lightning
    r"`isinstance\(treespec, LeafSpec\)` is deprecated": FutureWarning,
    # a run's folder may have been moved; its own path is used
    r"The dirpath has changed from": UserWarning,
    # the summary shows the size of the float32 weights, which is correct for mixed precision
    r"Precision .* is not supported by the model summary": UserWarning,
    # each batch is a single read, so 0 workers are faster than 1
    r".*does not have many workers which may be a bottleneck": UserWarning,
    # every epoch is logged in any case
    r"The number of training batches .* is smaller than the logging interval": UserWarning,
    # a resumed run writes to its original folder
    r"(Checkpoint|Experiment logs) directory .* exists and is not empty": UserWarning,
    # training without a validation split was chosen by the user
    r"You defined a `validation_step` but have no `val_dataloader`": UserWarning,
    r"Total length of `list` across ranks is zero": UserWarning,
    # torchmetrics has already reduced the value over all processes
    r"It is recommended to use `self.log\(.*sync_dist=True": UserWarning,
    # the checkpoint contains the averaged weights, as intended
    r"You're using the WeightAveraging callback, but loading a checkpoint outside": UserWarning,
    # lightning 2.6.6 with torch 2.15, as above
    r"torch.distributed.nn.functional.all_gather is deprecated": FutureWarning,
    # the learning-rate finder steps its own scheduler before the optimizer's first step
    r"Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`": UserWarning,
}


# Log lines: advertisements of other products, absent hardware, Lightning's own bookkeeping, what is printed anyway, and
# advice on float32 matrix products, of which mixed precision leaves few
_NOISE = re.compile(
    r"Tip:|TPU available|Loading `train_dataloader` to estimate|that has Tensor Cores|Loaded model weights from"
    r"|Restored all states from|Restoring states from .*\.lr_find|`Trainer.fit` stopped: `max_(epochs|steps)"
)


def ignore_third_party_warnings() -> None:
    """Ignore warnings and log lines that a user of this program cannot act on."""
    # addressed to Lightning, about jsonargparse's next version
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # a bar would fill the log
    for message, category in _WARNINGS.items():
        warnings.filterwarnings("ignore", message, category)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_informative)
    threading.excepthook = _print_thread_error


def _print_thread_error(error: threading.ExceptHookArgs) -> None:
    """Print the traceback of a thread, except of TensorBoard's writer, whose errors RunLogger reports in one line."""
    if not (isinstance(error.exc_value, OSError) and type(error.thread).__name__ == "_AsyncWriterThread"):
        threading.__excepthook__(error)


def _is_informative(record: logging.LogRecord) -> bool:
    return not _NOISE.search(record.getMessage())
