"""Checkpoints written whole or not at all, and read without running anything that is in them."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from cifar_lit.atomic_file import damage, seal, write_atomically
from cifar_lit.errors import InputError
from cifar_lit.training.checkpointing.checkpoint_files import LAST, PREVIOUS

_WAITS = (1.0, 3.0)  # seconds before a further attempt; a full disk or a network drive may recover


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside the one that it replaces, and puts it in its place when it is on the disk.

    Lightning's own writes to the system's temporary folder and moves the file, which on another file system copies it:
    a kill meanwhile leaves part of it under the final name. Of ``last.ckpt`` the one before is kept as
    ``previous.ckpt``.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Writes the file, trying three times.

        Raises:
            InputError: if it cannot be written.
        """
        if "://" in str(path):
            return super().save_checkpoint(checkpoint, path, storage_options)
        file = Path(path)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        seal(buffer)
        replaces_whole = file.name == LAST and file.is_file() and damage(file) is None
        previous = file.with_name(PREVIOUS) if replaces_whole else None
        for wait in (*_WAITS, None):
            try:
                return write_atomically(file, buffer.getbuffer(), previous)
            except OSError as error:
                if wait is None:
                    kept = f"; {file} of before is whole" if file.exists() else ""
                    raise InputError(
                        f"the checkpoint {file} cannot be written ({error.strerror or error}){kept}. Make room, then"
                        " go on with the same command and --resume"
                    ) from error
                time.sleep(wait)
        return None

    def load_checkpoint(
        self,
        path: Any,
        map_location: Callable[..., Any] | None = lambda storage, _: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """What is in the file: tensors and plain values only.

        Raises:
            InputError: if it is not whole.
        """
        if "://" in str(path):
            raise InputError(f"{path}: a checkpoint is read from a file; download it first")
        if wrong := damage(Path(path)):
            raise InputError(f"{path} {wrong}; take another checkpoint")
        return torch.load(path, map_location=map_location, weights_only=True)
