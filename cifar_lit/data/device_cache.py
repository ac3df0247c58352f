"""Images kept on the device that trains on them, so that no batch has to travel there."""

from typing import Literal

import torch
from torch import Tensor

from cifar_lit.data.batches import ImageDataset, ImageTensors

_SHARE = 0.5  # of the memory free on the device that a set's images may take; the network needs the rest


def cache_on_device(
    dataset: ImageDataset, device: torch.device, free: int, rank: int, processes: int, shared: bool | None = None
) -> tuple[ImageDataset, bool]:
    """The data set with its images on the device, if there is room.

    Args:
        dataset: Whose images are in memory.
        device: Where they are needed.
        free: Bytes that are free there, the same in all processes, so that all decide alike.
        rank: This process's number.
        processes: How many there are, each with a device.
        shared: Whether each process reads a share of the images alone, as before the run was stopped, since that
            decides the order; None for whichever there is room for.

    Returns:
        The data set, and whether it holds this process's share of the images alone.
    """
    pixels = dataset.images.pixels
    needed = len(dataset) * pixels[0].numel() * pixels.element_size()
    where = placement(needed, free, processes, shared)
    sharing = where == "shard" if shared is None else shared
    rows = dataset.rows
    if sharing:  # of equal lengths, since all processes take as many steps
        rows = torch.cat([rows, rows[: -len(rows) % processes]])[rank::processes]
    if where == "host" or dataset.pipeline is not None:  # albumentations needs them in the loader
        if shared:
            return ImageDataset(dataset.images, rows, dataset.pipeline, dataset.seed, files=dataset.files), True
        return dataset, False
    images = ImageTensors(_moved(pixels, rows, device), dataset.images.labels[rows].to(device))
    places = torch.arange(len(rows), device=device)
    own = ImageDataset(images, places, None, dataset.seed, rows.to(device), dataset.files)
    return own, sharing


def placement(needed: int, free: int, processes: int, shared: bool | None = None) -> Literal["whole", "shard", "host"]:
    """Where images go: all on each device, a share of them on each, or nowhere but in the host's memory.

    Args:
        needed: Bytes of all images.
        free: Bytes that are free on the device.
        processes: How many share the images.
        shared: Whether they have to be shared out (True) or must not be (False).

    >>> placement(100, 200, 4), placement(101, 200, 4), placement(401, 200, 4)
    ('whole', 'shard', 'host')
    """
    room = _SHARE * free
    if needed <= room and not shared:
        return "whole"
    return "shard" if processes > 1 and needed / processes <= room and shared is not False else "host"


def free_memory(device: torch.device) -> int:
    """Bytes that are free on an accelerator; 0 for the CPU, whose memory the images are in already."""
    if device.type != "cuda":
        return 0
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for its next tensors
    return torch.cuda.mem_get_info(device)[0] + cached


def _moved(pixels: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    """The chosen images on the device, moved block by block, so that the host never holds a second copy."""
    moved = torch.empty(len(rows), *pixels.shape[1:], dtype=pixels.dtype, device=device)
    for to, chosen in zip(moved.split(4096), rows.split(4096), strict=True):
        to.copy_(pixels[chosen])
    return moved
