"""Memory that does not suffice, told in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from cifar_lit.errors import InputError


@contextmanager
def explain_out_of_memory(datamodule: Any, device: torch.device) -> Iterator[None]:
    """Turns an error of too little memory into one that says what to set.

    Args:
        datamodule: The data, for the size of their batches.
        device: Where the network is.

    Raises:
        InputError: in place of such an error.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_of_memory(error):
            raise
        size = getattr(datamodule, "batch_size", None)
        smaller = (
            f"with batches of {size} images; try --data.batch_size {max(1, size // 2)}"
            " --trainer.accumulate_grad_batches 2, which takes the same steps"
            if size
            else "; try smaller batches"
        )
        raise InputError(f"out of memory on {device} {smaller}, a smaller network, or smaller images") from error


def _is_of_memory(error: BaseException) -> bool:
    # On a CPU, and in a GPU's libraries, torch has no class for it
    told = ("can't allocate memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in told)
