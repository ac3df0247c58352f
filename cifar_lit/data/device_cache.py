"""Images cached on the training device, so that batches need not be transferred."""

from typing import Literal

import torch
from torch import Tensor

from cifar_lit.data.batches import ImageDataset, ImageTensors

_MAX_FRACTION = 0.5  # of the free device memory that a dataset may take; the network needs the rest


def cache_on_device(
    dataset: ImageDataset, device: torch.device, free: int, rank: int, processes: int, sharded: bool | None = None
) -> tuple[ImageDataset, bool]:
    """Move the images of a dataset to the device if there is room.

    Args:
        dataset: Data set with images in host memory.
        device: The training device.
        free: Bytes free on the device; must be the same in all processes, so that they all make the same decision.
        rank: Rank of this process.
        processes: Number of processes, each with its own device.
        sharded: Whether each process reads only its own shard; None to shard only if the images do not fit otherwise.
            A resumed run must keep its choice, which determines the order of the samples.

    Returns:
        The dataset, and whether it holds only this process's shard.
    """
    pixels = dataset.images.pixels
    needed = len(dataset) * pixels[0].numel() * pixels.element_size()
    target = placement(needed, free, processes, sharded)
    is_shard = target == "shard" if sharded is None else sharded
    rows = dataset.rows
    if is_shard:  # padded to equal lengths, so that all processes take the same number of steps
        rows = torch.cat([rows, rows[: -len(rows) % processes]])[rank::processes]
    if target == "host" or dataset.pipeline is not None:  # albumentations runs on the host
        if sharded:
            return ImageDataset(dataset.images, rows, dataset.pipeline, dataset.seed, files=dataset.files), True
        return dataset, False
    images = ImageTensors(_copy_rows(pixels, rows, device), dataset.images.labels[rows].to(device))
    positions = torch.arange(len(rows), device=device)
    return ImageDataset(images, positions, None, dataset.seed, rows.to(device), dataset.files), is_shard


def placement(needed: int, free: int, processes: int, sharded: bool | None = None) -> Literal["full", "shard", "host"]:
    """Decide where images are kept: all of them on each device, a shard on each, or in host memory.

    Args:
        needed: Size of all images in bytes.
        free: Free bytes on each device.
        processes: Number of processes to divide the images among.
        sharded: Require (True) or forbid (False) sharding.

    >>> placement(100, 200, 4), placement(101, 200, 4), placement(401, 200, 4)
    ('full', 'shard', 'host')
    """
    room = _MAX_FRACTION * free
    if needed <= room and not sharded:
        return "full"
    return "shard" if processes > 1 and needed / processes <= room and sharded is not False else "host"


def free_memory(device: torch.device) -> int:
    """Return the free bytes on an accelerator; 0 for the CPU, where the images already are."""
    if device.type != "cuda":
        return 0
    reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # in torch's own allocator
    return torch.cuda.mem_get_info(device)[0] + reusable


def _copy_rows(pixels: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    """Copy rows to the device block by block, without a second copy of all of them on the host."""
    copied = torch.empty(len(rows), *pixels.shape[1:], dtype=pixels.dtype, device=device)
    for target, block in zip(copied.split(4096), rows.split(4096), strict=True):
        target.copy_(pixels[block])
    return copied
