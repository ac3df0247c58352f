"""Batches read from images in memory, in an order that depends only on (seed, epoch)."""

import hashlib
import json
import math
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from cifar_lit.errors import InputError
from cifar_lit.randomness import key

Pipeline = Callable[[Tensor, int], Tensor]
SHARED_MEMORY = Path("/dev/shm")  # where Linux keeps it
_PREFETCHED = 2  # batches that each worker prepares, PyTorch's default
_BLOCK = 10_000  # positions converted to Python ints at a time, which take five times the memory of a tensor


class Batch(NamedTuple):
    """A batch of images, their labels and their indices in the dataset.

    pixels: (N, 3, H, W), uint8, 0 to 255; float32 of the same range after mixup.
    labels: int64 (N,); float32 (N, classes) after mixup.
    indices: int64 (N,), rows in the split's source, the same in every run.
    """

    pixels: Tensor
    labels: Tensor
    indices: Tensor


@dataclass(frozen=True)
class ImageTensors:
    """Images of one size and their labels.

    pixels: uint8 (N, 3, H, W), in memory or mapped from a file.
    labels: int64 (N,).
    files: Path of each image relative to its folder; empty if the images do not come from a folder of files.
    """

    pixels: Tensor
    labels: Tensor
    files: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.labels)


class ImageDataset(Dataset[Batch]):
    """A subset of labeled images that reads a batch at a time.

    Args:
        images: All images.
        rows: int64 (n,), the rows of ``images`` in this dataset.
        pipeline: Augments a batch of pixels, uint8 (N, 3, H, W), given a seed.
        seed: The run's seed, for the pipeline.
        indices: int64 (n,), the ``Batch.indices`` of the rows; ``rows`` by default.
        files: Path of each image, by its index; ``images.files`` by default.
    """

    def __init__(
        self,
        images: ImageTensors,
        rows: Tensor,
        pipeline: Pipeline | None = None,
        seed: int = 0,
        indices: Tensor | None = None,
        files: Sequence[str] | None = None,
    ) -> None:
        self.images, self.rows, self.pipeline, self.seed = images, rows, pipeline, seed
        self.files = images.files if files is None else files
        self.indices = rows if indices is None else indices

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> Tensor:
        """Labels of all images in order, int64 (n,)."""
        return self.images.labels[self.rows]

    @cached_property
    def digest(self) -> str:
        """Hash of the labels, the rows in the source and the file names."""
        digest = hashlib.blake2b(digest_size=8)
        for tensor in (self.images.labels, self.rows):
            digest.update(tensor.to("cpu").numpy().tobytes())
        digest.update(json.dumps(list(self.files)).encode())
        return digest.hexdigest()

    def sample(self, count: int) -> Tensor:
        """Return up to ``count`` evenly spaced images, not augmented: uint8 (count, 3, H, W)."""
        positions = torch.linspace(0, len(self) - 1, min(count, len(self))).long()
        return self.images.pixels[self.rows[positions]]

    def __getitems__(self, keys: Sequence[tuple[int, int] | int]) -> Batch:
        """Return the batch of the samples at these (epoch, position) pairs.

        Positions alone belong to epoch 0, as with ``overfit_batches``.
        """
        pairs = [(0, one) if isinstance(one, int) else one for one in keys]
        positions = torch.tensor([position for _, position in pairs]).to(self.rows.device, non_blocking=True)
        rows = self.rows.index_select(0, positions)
        pixels = self.images.pixels.index_select(0, rows)  # faster on a CPU than indexing
        if self.pipeline is not None:
            epoch, position = pairs[0]
            pixels = self.pipeline(pixels, key(self.seed, epoch, position))
        indices = rows if self.indices is self.rows else self.indices.index_select(0, positions)
        return Batch(pixels, self.images.labels.index_select(0, rows), indices)


def identity_collate(batch: Any) -> Any:
    """Return the batch unchanged: a ``collate_fn`` for datasets that return batches."""
    return batch


class BatchLoader(DataLoader[Batch]):
    """A DataLoader that Lightning treats as resumable mid-epoch, which EpochSampler makes it.

    Its workers ignore SIGINT and SIGTERM, so that the main process can save a checkpoint before it exits.

    Args:
        dataset: The images.
        loaders: Number of such loaders that keep prepared batches in shared memory at the same time.
        **kwargs: See DataLoader.
    """

    def __init__(self, dataset: ImageDataset, loaders: int = 1, **kwargs: Any) -> None:
        super().__init__(dataset, **({"worker_init_fn": _ignore_signals} | kwargs))
        if self.num_workers and len(dataset) and SHARED_MEMORY.is_dir():
            image = dataset.__getitems__([0]).pixels
            self._check_shared_memory(loaders, image.nbytes * min(self.batch_size or 1, len(dataset)))

    def _check_shared_memory(self, loaders: int, batch_bytes: int) -> None:
        """Raise InputError if the prepared batches do not fit: the workers would wait forever."""
        workers, free = loaders * self.num_workers, shutil.disk_usage(SHARED_MEMORY).free
        needed = workers * (_PREFETCHED + 1) * batch_bytes
        if needed > free:
            raise InputError(
                f"data.num_workers: {workers} processes may need {needed / 2**20:,.0f} MB of shared memory, but"
                f" {SHARED_MEMORY} has {free / 2**20:,.0f} MB free; set fewer, or a smaller data.batch_size, or in"
                " Docker raise it with --shm-size"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return no state: the position follows from Lightning's count of batches."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing."""


def _ignore_signals(worker: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class EpochSampler(DistributedSampler[Batch]):
    """Yield (epoch, position) for each sample of this process.

    Workers receive the epoch with each sample, so augmentation can depend on it whatever the start method. The shuffled
    order depends only on (seed, epoch). Subclassing DistributedSampler makes Lightning set the epoch and keeps it from
    wrapping the sampler in its own.

    Args:
        dataset: The dataset to sample from.
        shuffle: Whether to shuffle in each epoch.
        balanced: Whether to draw as many samples of each class in each epoch, instead of each image once. The images of
            a class are drawn equally often, give or take one.
        min_batches: Draw each image several times in an epoch, each time in another order, to get this many batches.
        seed: Seed of the shuffling.
        processes: Number of processes that divide the samples among themselves.
        rank: Rank of this process.
        pad: Repeat samples until all processes have the same number; for training only, as evaluation must not.
        start: Epoch to resume in, and the number of this process's samples to skip in it.
        batch_size: If the last batch of this size would be a single sample, which batch norm cannot be trained on,
            leave it out; 0 keeps it.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        *,
        shuffle: bool,
        seed: int,
        balanced: bool = False,
        min_batches: int = 0,
        processes: int = 1,
        rank: int = 0,
        pad: bool = True,
        start: tuple[int, int] = (0, 0),
        batch_size: int = 0,
    ) -> None:
        super().__init__(dataset, num_replicas=processes, rank=rank, shuffle=shuffle, seed=seed)
        self._start, self._balanced, self._repeats = start, balanced, 1
        if min_batches and len(dataset):
            needed = (min_batches - 1) * batch_size + 2  # two, since a single last one is left out
            self._repeats = max(1, math.ceil(needed * processes / len(dataset)))
        self.num_samples = math.ceil(len(dataset) * self._repeats / processes)
        self.total_size = self.num_samples * processes
        self.set_epoch(start[0])  # Lightning sets it too, but only after workers have started to read
        if not pad:
            self.total_size = len(dataset)
            self.num_samples = len(range(rank, len(dataset), processes))
        if 1 < batch_size < self.num_samples and self.num_samples % batch_size == 1:
            self.num_samples -= 1

    def __iter__(self) -> Iterator[tuple[int, int]]:  # type: ignore[override]
        count = len(self.dataset)  # type: ignore[arg-type]
        order = torch.arange(count)
        if self.shuffle:
            generator = torch.Generator().manual_seed(key("order", self.seed, self.epoch))
            order = torch.cat([torch.randperm(count, generator=generator) for _ in range(self._repeats)])
            if self._balanced:
                order = _balance(order, self.dataset.labels.cpu(), generator)  # type: ignore[attr-defined]
        if self.total_size > len(order):
            order = order.repeat(-(-self.total_size // max(len(order), 1)))[: self.total_size]
        start_epoch, skipped = self._start
        own = order[self.rank :: self.num_replicas][: self.num_samples]
        for positions in own[skipped if self.epoch == start_epoch else 0 :].split(_BLOCK):
            for position in positions.tolist():
                yield self.epoch, position


def _balance(order: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return as many positions, of which each class has the same number, or one more.

    Args:
        order: int64 (n,), shuffled positions.
        labels: int64 (n,), the class of each position.
        generator: Shuffles the classes.
    """
    classes = torch.unique(labels)
    classes = classes[torch.randperm(len(classes), generator=generator)]
    shares = torch.tensor_split(torch.empty(len(order)), len(classes))
    drawn = []
    for label, share in zip(classes, shares, strict=True):
        own = order[labels[order] == label]
        drawn.append(own.repeat(-(-len(share) // len(own)))[: len(share)])
    return torch.cat(drawn)[torch.randperm(len(order), generator=generator)]
