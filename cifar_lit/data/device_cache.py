"""Images cached on the training device, so that batches need not be transferred."""

import torch
from torch import Tensor

from cifar_lit.data.batches import ImageDataset, ImageTensors

_MAX_FRACTION = 0.5  # of the free device memory that a dataset may take; the network needs the rest


def cache_on_device(dataset: ImageDataset, device: torch.device, free: int) -> ImageDataset:
    """Move the images of a dataset to the device if there is room; Albumentations need them on the host.

    Args:
        dataset: Dataset with images in host memory.
        device: The training device.
        free: Bytes free on the device.
    """
    pixels, rows = dataset.images.pixels, dataset.rows
    if dataset.pipeline is not None or len(dataset) * pixels[0].nbytes > _MAX_FRACTION * free:
        return dataset
    images = ImageTensors(_copy_rows(pixels, rows, device), dataset.images.labels[rows].to(device))
    positions = torch.arange(len(rows), device=device)
    return ImageDataset(images, positions, None, dataset.seed, rows.to(device), dataset.files)


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
