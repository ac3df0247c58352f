"""Build the loader of a dataset for a trainer's device and processes."""

from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, SequentialSampler

from cifar_lit.data.batches import Batch, BatchLoader, EpochSampler, ImageDataset, ImageTensors, identity_collate
from cifar_lit.errors import InputError
from cifar_lit.randomness import run_seed

_MAX_FRACTION = 0.5  # of the free device memory that a dataset may take; the network needs the rest


def build_loader(
    dataset: ImageDataset,
    trainer: Trainer | None,
    batch_size: int,
    num_workers: int,
    *,
    training: bool = False,
    loaders: int = 1,
    **order: Any,
) -> DataLoader[Batch]:
    """Return a loader.

    Args:
        dataset: The images.
        trainer: The trainer, which determines the device and the processes.
        batch_size: Images per batch, in each process.
        num_workers: Processes that load batches, unless the images are on the device.
        training: Whether to shuffle, and to give all processes the same number of samples.
        loaders: Number of such loaders at the same time.
        **order: ``balanced``, ``min_batches`` and ``start`` of EpochSampler.

    Raises:
        InputError: If there are fewer images than processes, or prepared batches do not fit in shared memory.
    """
    processes, rank, cached, on_cuda = 1, 0, False, False
    if trainer:
        processes, rank = trainer.world_size, trainer.global_rank
        if len(dataset) < processes:
            raise InputError(f"{processes} processes cannot share {len(dataset)} images; reduce --trainer.devices")
        device = trainer.strategy.root_device
        on_cuda = device.type == "cuda"
        dataset = cache_on_device(dataset, device, free_memory(device))
        cached = dataset.images.pixels.device.type != "cpu"
    sampler: Sampler[Any] = EpochSampler(
        dataset,
        shuffle=training,
        pad=training,
        seed=run_seed(),
        processes=processes,
        rank=rank,
        batch_size=batch_size * training,
        **order,
    )
    if trainer and trainer.overfit_batches:
        sampler = SequentialSampler(dataset)
    workers = 0 if cached else num_workers
    return BatchLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        collate_fn=identity_collate,
        num_workers=workers,
        pin_memory=on_cuda and not cached,
        persistent_workers=workers > 0,
        loaders=loaders,
    )


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
