"""Build the loader of a dataset for a trainer's device and processes."""

from typing import Any

from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, Sampler, SequentialSampler

from cifar_lit.data.batches import Batch, BatchLoader, EpochSampler, ImageDataset, identity_collate
from cifar_lit.data.device_cache import cache_on_device, free_memory
from cifar_lit.errors import InputError
from cifar_lit.randomness import run_seed


def build_loader(
    dataset: ImageDataset,
    trainer: Trainer | None,
    batch_size: int,
    num_workers: int,
    *,
    training: bool = False,
    balanced: bool = False,
    min_batches: int = 0,
    start: tuple[int, int] = (0, 0),
    loaders: int = 1,
) -> DataLoader[Batch]:
    """Return a loader.

    Args:
        dataset: The images.
        trainer: The trainer, which determines the device and the processes.
        batch_size: Images per batch, in each process.
        num_workers: Processes that load batches, unless the images are on the device.
        training: Whether to shuffle, and to give all processes the same number of samples.
        balanced: Whether to draw as many samples of each class.
        min_batches: Least number of batches in an epoch; images are repeated if there are fewer.
        start: Epoch to resume in, and the number of this process's samples to skip in it.
        loaders: Number of such loaders at the same time.

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
        balanced=balanced,
        min_batches=min_batches,
        pad=training,
        start=start,
        seed=run_seed(),
        processes=processes,
        rank=rank,
        batch_size=batch_size * training,
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
