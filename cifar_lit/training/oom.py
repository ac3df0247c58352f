"""Turn out-of-memory errors into a one-line hint."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from cifar_lit.errors import InputError


@contextmanager
def explain_out_of_memory(datamodule: Any, device: torch.device) -> Iterator[None]:
    """Raise InputError in place of an out-of-memory error, or of a data loader's worker that was killed.

    Args:
        datamodule: The data module, for its batch size.
        device: Device of the network.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if "DataLoader worker (pid" in str(error):
            reason = str(error).splitlines()[0].rstrip(".")
            raise InputError(f"{reason}. Set fewer data.num_workers, or in Docker, raise --shm-size") from error
        if not _is_out_of_memory(error):
            raise
        size = getattr(datamodule, "batch_size", None)
        hint = (
            f" with batches of {size} images; try --data.batch_size {max(1, size // 2)}"
            " --trainer.accumulate_grad_batches 2, which keeps the effective batch size"
            if size
            else "; try smaller batches"
        )
        raise InputError(f"out of memory on {device}{hint}, a smaller network, or smaller images") from error


def _is_out_of_memory(error: BaseException) -> bool:
    # torch has no exception class for a CPU's allocator and for cuDNN and cuBLAS
    messages = ("can't allocate memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in str(error) for text in messages)
