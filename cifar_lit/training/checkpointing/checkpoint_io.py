"""Write checkpoints atomically, and read them without executing code."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from cifar_lit.errors import InputError
from cifar_lit.safe_files import write_atomically
from cifar_lit.training.checkpointing.checkpoint_digest import find_damage, seal
from cifar_lit.training.checkpointing.checkpoint_files import LAST, PREVIOUS

_WAITS = (1.0, 3.0)  # seconds before another attempt; a full disk or a network drive may recover


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint to a temporary file in the same folder, then rename it.

    Lightning writes to the system's temporary folder and moves the file, which is a copy on another file system: a kill
    in between leaves a truncated file under the final name. The predecessor of ``last.ckpt`` is kept as
    ``previous.ckpt``.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write the file; raise InputError if three attempts fail."""
        if "://" in str(path):
            return super().save_checkpoint(checkpoint, path, storage_options)
        file = Path(path)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        seal(buffer)
        replaces_intact = file.name == LAST and file.is_file() and find_damage(file) is None
        previous = file.with_name(PREVIOUS) if replaces_intact else None
        for wait in (*_WAITS, None):
            try:
                return write_atomically(file, buffer.getbuffer(), previous)
            except OSError as error:
                if wait is None:
                    kept = f"; the previous {file} is intact" if file.exists() else ""
                    raise InputError(
                        f"the checkpoint {file} cannot be written ({error.strerror or error}){kept}. Make room, then"
                        " resume with the same command and --resume"
                    ) from error
                time.sleep(wait)
        return None

    def load_checkpoint(
        self,
        path: Any,
        map_location: Callable[..., Any] | None = lambda storage, _: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Return the content of the file, tensors and plain values only; raise InputError if it is damaged."""
        if "://" in str(path):
            raise InputError(f"{path}: checkpoints are read from files; download it first")
        if wrong := find_damage(Path(path)):
            raise InputError(f"{path} {wrong}; use another checkpoint")
        return torch.load(path, map_location=map_location, weights_only=True)
