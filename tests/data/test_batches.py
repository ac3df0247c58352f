import itertools
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from cifar_lit.data import batches
from cifar_lit.data.albumentations import AlbumentationsPipeline
from cifar_lit.data.batches import Batch, BatchLoader, EpochSampler, ImageDataset, ImageTensors, identity_collate
from cifar_lit.errors import InputError


def dataset(count: int, pipeline: AlbumentationsPipeline | None = None) -> ImageDataset:
    pixels = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(count, 3, 8, 8).contiguous()
    return ImageDataset(ImageTensors(pixels, torch.arange(count) % 3), torch.arange(count), pipeline, seed=5)


def positions(
    data: ImageDataset, epoch: int = 0, *, seed: int = 0, processes: int = 1, pad: bool = True
) -> list[list[int]]:
    order = []
    for rank in range(processes):
        sampler = EpochSampler(data, shuffle=True, seed=seed, processes=processes, rank=rank, pad=pad)
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert len(keys) == len(sampler)
        assert {key[0] for key in keys} <= {epoch}
        order.append([position for _, position in keys])
    return order


def test_sample_is_evenly_spaced_from_the_first_image_to_the_last() -> None:
    assert dataset(100).sample(200)[:, 0, 0, 0].tolist() == list(range(100))
    assert dataset(100).sample(34)[:, 0, 0, 0].tolist() == list(range(0, 100, 3))
    assert dataset(101).sample(60)[[0, -1], 0, 0, 0].tolist() == [0, 100]


def test_a_balanced_epoch_has_as_many_samples_of_each_class() -> None:
    labels = torch.tensor([0] * 80 + [1] * 15 + [2] * 5)
    data = ImageDataset(ImageTensors(dataset(100).images.pixels, labels), torch.arange(100))
    sampler = EpochSampler(data, shuffle=True, seed=0, balanced=True)
    epochs = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        epochs.append(torch.tensor([position for _, position in sampler]))
        assert len(epochs[-1]) == 100
        assert sorted(torch.bincount(labels[epochs[-1]]).tolist()) == [33, 33, 34]
        counts = torch.bincount(epochs[-1], minlength=100)
        assert counts[:80].max() == 1
        assert set(counts[80:95].tolist()) == {2, 3}
        assert set(counts[95:].tolist()) <= {6, 7}
    assert not torch.equal(epochs[0], epochs[1])
    again = EpochSampler(data, shuffle=True, seed=0, balanced=True, start=(2, 30))
    assert [position for _, position in again] == epochs[2][30:].tolist()
    halves = [EpochSampler(data, shuffle=True, seed=0, balanced=True, processes=2, rank=rank) for rank in (0, 1)]
    assert sorted(position for half in halves for _, position in half) == sorted(epochs[0].tolist())


@pytest.mark.parametrize("balanced", [False, True])
def test_few_images_are_repeated_until_an_epoch_has_enough_batches(balanced: bool) -> None:
    def sampler(min_batches: int, **settings: Any) -> EpochSampler:
        settings = {"shuffle": True, "seed": 0, "balanced": balanced, "batch_size": 4, **settings}
        return EpochSampler(dataset(30), min_batches=min_batches, **settings)

    drawn = [position for _, position in sampler(20)]  # three times eight batches
    assert len(sampler(20)) == len(drawn) == 90
    assert set(torch.bincount(torch.tensor(drawn)).tolist()) == {3}
    assert drawn[:30] != drawn[30:60] != drawn[60:]
    if not balanced:
        assert sorted(drawn[:30]) == sorted(drawn[30:60]) == list(range(30))
    assert [position for _, position in sampler(20, start=(0, 40))] == drawn[40:]
    halves = [[position for _, position in sampler(20, processes=2, rank=rank)] for rank in (0, 1)]
    assert [len(half) for half in halves] == [90, 90]  # six times
    assert len(sampler(8)) == 30
    assert list(sampler(8)) == list(sampler(0))
    for count, size, processes in itertools.product((1, 2, 5, 33, 65, 130), (1, 4, 32), (1, 3)):
        order = {"balanced": balanced, "batch_size": size, "processes": processes}
        few = EpochSampler(dataset(count), shuffle=True, seed=0, min_batches=7, **order)
        assert math.ceil(len(few) / size) >= 7


def test_order_depends_only_on_seed_and_epoch() -> None:
    data = dataset(100)
    assert sorted(positions(data)[0]) == list(range(100))
    assert positions(data, 1) == positions(data, 1)
    orders = [positions(data, epoch, seed=seed)[0] for epoch in range(3) for seed in range(3)]
    assert len({tuple(order) for order in orders}) == 9  # (1, 0) differs from (0, 1), too


def test_processes_divide_the_samples_and_repeat_some_only_in_training() -> None:
    for count in (1, 2, 7, 10, 11):
        padded = positions(dataset(count), processes=3)
        assert len({len(own) for own in padded}) == 1
        assert {position for own in padded for position in own} == set(range(count))
        exact = positions(dataset(count), processes=3, pad=False)
        assert sorted(position for own in exact for position in own) == list(range(count))


def test_batch_has_pixels_labels_and_indices_of_the_requested_rows() -> None:
    images = dataset(10).images
    held_out = ImageDataset(images, torch.tensor([3, 5, 9]))
    batch = held_out.__getitems__([(0, 2), (0, 0)])
    assert isinstance(batch, Batch)
    assert batch.indices.tolist() == [9, 3]
    assert batch.labels.tolist() == [0, 0]
    assert batch.pixels[:, 0, 0, 0].tolist() == [9, 3]
    assert held_out.labels.tolist() == [0, 2, 0]


def test_albumentations_differ_by_batch_and_epoch_but_not_by_number_of_workers() -> None:
    pipeline = AlbumentationsPipeline([{"RandomBrightnessContrast": {"p": 1.0}}], (0.5, 0.5, 0.5), (8, 8))
    data = dataset(16, pipeline)
    data.images.pixels[:] = 100

    def epoch(number: int, workers: int) -> torch.Tensor:
        sampler = EpochSampler(data, shuffle=False, seed=0)
        sampler.set_epoch(number)
        loader = DataLoader(data, batch_size=4, sampler=sampler, collate_fn=identity_collate, num_workers=workers)
        return torch.cat([batch.pixels[:, 0, 0, 0] for batch in loader])

    first = epoch(0, 0)
    assert len(first.unique()) > 8  # batches, and hence workers, draw different numbers
    assert torch.equal(first, epoch(0, 2))
    assert torch.equal(first, epoch(0, 4))
    assert not torch.equal(first, epoch(1, 2))


def test_a_single_last_sample_is_left_out_of_a_training_epoch() -> None:
    def count(samples: int, batch_size: int, processes: int = 1) -> int:
        return len(EpochSampler(dataset(samples), shuffle=True, seed=0, processes=processes, batch_size=batch_size))

    assert [count(65, 64), count(66, 64), count(65, 1), count(65, 0), count(1, 64)] == [64, 66, 65, 65, 1]
    assert count(130, 64, processes=2) == 64
    sampler = EpochSampler(dataset(65), shuffle=True, seed=0, batch_size=64)
    seen = set()
    for epoch in range(4):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert len(keys) == 64
        seen |= {position for _, position in keys}
    assert len(seen) == 65  # it is another one in each epoch


def test_positions_alone_belong_to_epoch_0() -> None:
    data = dataset(10)
    assert torch.equal(data.__getitems__([2, 0]).pixels, data.__getitems__([(0, 2), (0, 0)]).pixels)


def test_workers_whose_batches_do_not_fit_into_shared_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=2**20)
    monkeypatch.setattr(batches, "SHARED_MEMORY", Path("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    options: dict[str, Any] = {"batch_size": 100, "collate_fn": identity_collate}
    BatchLoader(dataset(200), num_workers=2, **options)
    with pytest.raises(InputError, match=r"4 processes may need 2 MB of shared memory.*has 1 MB free.*--shm-size"):
        BatchLoader(dataset(1000), num_workers=2, loaders=2, **{**options, "batch_size": 1000})
    BatchLoader(dataset(10), num_workers=2, loaders=2, **{**options, "batch_size": 1000})  # an incomplete batch
