"""Where a run resumes within its training images."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

from cifar_lit.errors import InputError


def training_position(trainer: Trainer) -> tuple[int, int]:
    """Return the current epoch, and the number of batches done in it."""
    loop = trainer.fit_loop
    epochs: Any = loop.epoch_progress.current
    batches: Any = loop.epoch_loop.batch_progress
    if epochs.processed == epochs.ready:
        return epochs.processed, 0
    if batches.is_last_batch:
        return epochs.processed + 1, 0
    return epochs.processed, batches.current.processed


def check_unchanged(state: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise InputError if a setting differs from the checkpoint's."""
    state = {"data.min_batches": 0, **state}  # missing in older checkpoints, as may be others
    if changed := [name for name in now if state.get(name, now[name]) != now[name]]:
        raise InputError(
            f"cannot resume with {' and '.join(f'{name} {now[name]}' for name in changed)}: the checkpoint was made"
            f" with {' and '.join(f'{name} {state[name]}' for name in changed)}; use the same, or run `fit` without"
            " the checkpoint to begin a new run"
        )


def warn_of_other_images(state: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Warn if the training images are not the checkpoint's."""
    if any(state[name] != now[name] for name in ("images", "digest")):
        rank_zero_warn(
            f"the training images are not those of the checkpoint ({state['images']} then, {now['images']} now);"
            " resuming with the current ones"
        )
