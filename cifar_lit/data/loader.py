"""Build the loader of a dataset for a trainer's device and processes."""

from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, Sampler, SequentialSampler

from cifar_lit.data.batches import Batch, BatchLoader, EpochSampler, ImageDataset, identity_collate
from cifar_lit.data.device_cache import cache_on_device, free_memory
from cifar_lit.errors import InputError
from cifar_lit.randomness import key, run_seed


class LoaderOptions(NamedTuple):
    """Options of a loader.

    batch_size: Images per batch, in each process.
    num_workers: Processes that load batches, unless the images are on the device.
    training: Whether to shuffle, and to give all processes the same number of samples.
    balanced: Whether to draw as many samples of each class.
    min_batches: Least number of batches in an epoch; images are repeated if there are fewer.
    start: Epoch to resume in, and the number of this process's samples to skip in it.
    sharded: Whether each process reads only its own shard; None to decide by the free memory.
    loaders: Number of such loaders at the same time.
    """

    batch_size: int
    num_workers: int
    training: bool = False
    balanced: bool = False
    min_batches: int = 0
    start: tuple[int, int] = (0, 0)
    sharded: bool | None = None
    loaders: int = 1


def build_loader(
    dataset: ImageDataset, trainer: Trainer | None, options: LoaderOptions
) -> tuple[DataLoader[Batch], bool]:
    """Return a loader, and whether it reads only this process's shard of the images.

    Raises:
        InputError: If there are fewer images than processes, or prepared batches do not fit in shared memory.
    """
    training, processes, rank, seed = options.training, 1, 0, run_seed()
    is_shard = cached = on_cuda = False
    if trainer:
        processes, rank = trainer.world_size, trainer.global_rank
        if len(dataset) < processes:
            raise InputError(f"{processes} processes cannot share {len(dataset)} images; reduce --trainer.devices")
        device = trainer.strategy.root_device
        on_cuda = device.type == "cuda"
        free = torch.tensor(float(free_memory(device)), device=device)
        min_free = int(trainer.strategy.reduce(free, reduce_op="min"))  # processes have to agree
        # Never sharded for evaluation: shards may repeat images, and each must count only once
        share = (rank, processes, options.sharded) if training else (0, 1)
        dataset, is_shard = cache_on_device(dataset, device, min_free, *share)
        cached = dataset.images.pixels.device.type != "cpu"
        if is_shard:  # each process shuffles its own shard
            seed, processes, rank = key("share", seed, rank), 1, 0
    order = {"seed": seed, "processes": processes, "rank": rank, "batch_size": options.batch_size * training}
    sampler: Sampler[Any] = EpochSampler(
        dataset,
        shuffle=training,
        balanced=options.balanced,
        min_batches=options.min_batches,
        pad=training,
        start=options.start,
        **order,
    )
    if trainer and trainer.overfit_batches:
        sampler = SequentialSampler(dataset)
    workers = 0 if cached else options.num_workers
    loader = BatchLoader(
        dataset,
        batch_size=options.batch_size,
        sampler=sampler,
        collate_fn=identity_collate,
        num_workers=workers,
        pin_memory=on_cuda and not cached,
        persistent_workers=workers > 0,
        loaders=options.loaders,
    )
    return loader, is_shard
