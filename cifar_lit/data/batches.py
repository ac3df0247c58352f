"""Whole batches read at once from images in memory, in an order that is a function of (seed, epoch)."""

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from cifar_lit.randomness import key

Pipeline = Callable[[Tensor, int], Tensor]
_BLOCK = 10_000  # positions that are Python's numbers at a time, which take five times the memory of a tensor's


class Batch(NamedTuple):
    """What a step gets: pixels (N, 3, H, W), their labels, and where they stand in the data set.

    pixels: uint8, 0 to 255; float32 of the same range where images were mixed.
    labels: int64 (N,), or float32 (N, classes) where images were mixed.
    indices: int64 (N,), the samples' rows in the split's source, the same from run to run.
    """

    pixels: Tensor
    labels: Tensor
    indices: Tensor


@dataclass(frozen=True)
class ImageTensors:
    """Images of one size and their labels.

    pixels: uint8 (N, 3, H, W), in memory or mapped from a file.
    labels: int64 (N,).
    files: Where they are from, relative to their folder; empty where that is no folder of files.
    """

    pixels: Tensor
    labels: Tensor
    files: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.labels)


class ImageDataset(Dataset[Batch]):
    """The chosen rows of labelled images; reads a whole batch at once.

    Args:
        images: All the images.
        rows: int64 (n,), the rows of ``images`` that belong to this data set.
        pipeline: Augments a batch of pixels (uint8 (N, 3, H, W)), given a seed.
        seed: The run's seed, for the pipeline.
        indices: int64 (n,), what the rows are called in a batch, where that is not their place in ``images``.
        files: The file of each image, by what its row is called; those of ``images``, unless they are given.
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
        """int64 (n,), the labels in order."""
        return self.images.labels[self.rows]

    def sample(self, count: int) -> Tensor:
        """Pixels uint8 (up to ``count``, 3, H, W), not augmented, taken evenly from all."""
        places = torch.linspace(0, len(self) - 1, min(count, len(self))).long()
        return self.images.pixels[self.rows[places]]

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch:
        """The batch of the samples at these (epoch, position) pairs."""
        positions = torch.tensor([position for _, position in keys]).to(self.rows.device, non_blocking=True)
        rows = self.rows.index_select(0, positions)
        pixels = self.images.pixels.index_select(0, rows)  # whole images: faster than indexing on a CPU
        if self.pipeline is not None:
            epoch, position = keys[0]
            pixels = self.pipeline(pixels, key(self.seed, epoch, position))
        indices = rows if self.indices is self.rows else self.indices.index_select(0, positions)
        return Batch(pixels, self.images.labels.index_select(0, rows), indices)


def identity_collate(batch: Any) -> Any:
    """The batch, which the data set has put together already (a DataLoader's ``collate_fn``)."""
    return batch


class BatchLoader(DataLoader[Batch]):
    """A DataLoader that Lightning takes for one that goes on in the middle of an epoch, as EpochSampler makes it do.

    Its workers leave SIGTERM and Ctrl-C to the process that they load for, which saves before it ends.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **({"worker_init_fn": _ignore_signals} | kwargs))

    def state_dict(self) -> dict[str, Any]:
        """Nothing: where to go on follows from the number of batches that Lightning keeps."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Does nothing."""


def _ignore_signals(worker: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class EpochSampler(DistributedSampler[Batch]):
    """Positions of this process's samples, each with the epoch that it is read in.

    A worker that augments a sample so knows the epoch, however it was started. The shuffled order depends on
    (seed, epoch) alone; Lightning sets the epoch. Where the samples do not divide among the processes, training repeats
    some so that all take as many steps; evaluation repeats none (``pad=False``), since it would count twice.
    A run that goes on in the middle of an epoch leaves out what it was trained on before: ``resumed`` is that epoch,
    and how many of this process's samples.
    (Lightning leaves a DistributedSampler as it is; any other sampler it would wrap into its own.)
    """

    def __init__(
        self,
        dataset: ImageDataset,
        *,
        shuffle: bool,
        seed: int,
        processes: int = 1,
        rank: int = 0,
        pad: bool = True,
        resumed: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__(dataset, num_replicas=processes, rank=rank, shuffle=shuffle, seed=seed)
        self._resumed = resumed
        self.set_epoch(resumed[0])  # Lightning sets it too, but after workers have begun to read
        if not pad:
            self.total_size = len(dataset)
            self.num_samples = len(range(rank, len(dataset), processes))

    def __iter__(self) -> Iterator[tuple[int, int]]:  # type: ignore[override]
        count = len(self.dataset)  # type: ignore[arg-type]
        order = torch.arange(count)
        if self.shuffle:
            generator = torch.Generator().manual_seed(key("order", self.seed, self.epoch))
            order = torch.randperm(count, generator=generator)
        if self.total_size > count:
            order = order.repeat(-(-self.total_size // max(count, 1)))[: self.total_size]
        epoch, trained_on = self._resumed
        own = order[self.rank :: self.num_replicas]
        for positions in own[trained_on if self.epoch == epoch else 0 :].split(_BLOCK):
            for position in positions.tolist():
                yield self.epoch, position
