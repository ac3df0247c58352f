from types import SimpleNamespace

import pytest
import torch

from cifar_lit.data import device_cache
from cifar_lit.data.batches import ImageDataset, ImageTensors
from cifar_lit.data.device_cache import cache_on_device
from cifar_lit.data.digits import Digits
from cifar_lit.errors import InputError

CPU = torch.device("cpu")


def dataset(count: int = 11) -> ImageDataset:
    """Return every second of 22 images, so that rows and positions differ; pixels have the value of their row."""
    pixels = torch.arange(2 * count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).contiguous()
    images = ImageTensors(pixels, torch.arange(2 * count), [f"{row}.png" for row in range(2 * count)])
    return ImageDataset(images, torch.arange(1, 2 * count, 2), seed=5)


ALL = 2 * 11 * 48  # free bytes that are enough for the dataset, which may take half of them


def test_images_that_fit_are_cached_with_their_indices_and_files() -> None:
    cached, sharded = cache_on_device(dataset(), CPU, ALL, rank=0, processes=1)
    assert not sharded
    keys = [(0, position) for position in (3, 0, 10)]
    for actual, expected in zip(cached.__getitems__(keys), dataset().__getitems__(keys), strict=True):
        assert torch.equal(actual, expected)
    assert len(cached.images) == 11  # held-out images are not cached
    batch = cached.__getitems__(keys)
    assert [cached.files[index] for index in batch.indices] == [f"{label}.png" for label in batch.labels.tolist()]


def test_images_that_do_not_fit_on_one_device_are_sharded() -> None:
    shards = [cache_on_device(dataset(), CPU, 2 * 6 * 48, rank, 2) for rank in range(2)]
    assert all(sharded for _, sharded in shards)
    first, second = (shard.indices.tolist() for shard, _ in shards)
    assert (len(first), len(second)) == (6, 6)  # one image is repeated for an equal number of steps
    assert sorted({*first, *second}) == list(range(1, 22, 2))
    for shard, _ in shards:
        batch = shard.__getitems__([(0, position) for position in range(6)])
        assert torch.equal(batch.pixels[:, 0, 0, 0].long(), batch.indices)
        assert torch.equal(batch.labels, batch.indices)


def test_images_that_do_not_fit_or_need_albumentations_stay_on_the_host() -> None:
    data = dataset()
    assert cache_on_device(data, CPU, device_cache.free_memory(CPU), 0, 2) == (data, False)
    data.pipeline = lambda pixels, seed: pixels
    assert cache_on_device(data, CPU, ALL, 0, 1) == (data, False)


def test_resumed_run_keeps_its_sharding_regardless_of_free_memory() -> None:
    for free, sharded in [(ALL, True), (ALL, False), (ALL // 2 + 48, False)]:
        assert cache_on_device(dataset(), CPU, free, 0, 2, sharded)[1] is sharded
    data = dataset()
    assert cache_on_device(data, CPU, ALL // 2 + 48, 0, 2, False)[0] is data  # on the host, not sharded
    shard, _ = cache_on_device(dataset(), CPU, ALL, 1, 2, True)
    uncached, sharded = cache_on_device(dataset(), CPU, 0, 1, 2, True)
    assert sharded
    assert len(uncached.images) == 22  # on the host
    data.pipeline = lambda pixels, seed: pixels
    augmented, sharded = cache_on_device(data, CPU, ALL, 1, 2, True)
    assert sharded
    assert augmented.pipeline is data.pipeline
    keys = [(0, position) for position in (3, 0, 5)]
    for data in (uncached, augmented):
        for actual, expected in zip(data.__getitems__(keys), shard.__getitems__(keys), strict=True):
            assert torch.equal(actual, expected)


def test_fewer_images_than_processes_are_refused() -> None:
    data = Digits()
    data.trainer = SimpleNamespace(overfit_batches=0, world_size=2000, global_rank=0)  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"2000 processes cannot share \d+ images; reduce --trainer.devices"):
        data.val_dataloader()


def test_sharded_processes_train_on_all_images_in_the_same_number_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Digits(batch_size=64)
    needed = len(data.train_set) * 3 * 32 * 32
    free = needed + 8 * 3 * 32 * 32  # enough for half of the images
    monkeypatch.setattr("cifar_lit.data.loader.free_memory", lambda device: 9 * free)  # more than in the other process
    indices = []
    for rank in range(2):
        strategy = SimpleNamespace(root_device=CPU, reduce=lambda _, reduce_op: torch.tensor(free))
        data.trainer = SimpleNamespace(overfit_batches=0, world_size=2, global_rank=rank, strategy=strategy)  # type: ignore[assignment]
        indices.append([batch.indices for batch in data.train_dataloader()])
    assert len(indices[0]) == len(indices[1]) == 9
    rows = torch.cat([*indices[0], *indices[1]])
    assert torch.equal(rows.unique(), data.train_set.rows.sort().values)
    assert len(rows) - len(rows.unique()) <= 1
    assert not torch.equal(indices[0][0].sort().values, indices[0][0])  # shuffled


def test_resumed_run_stays_sharded_when_all_images_would_fit() -> None:
    def data_module(free: int) -> Digits:
        data = Digits(batch_size=64)
        current = SimpleNamespace(processed=0, ready=0)
        loop = SimpleNamespace(
            epoch_progress=SimpleNamespace(current=current),
            epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=current, is_last_batch=False)),
        )
        strategy = SimpleNamespace(
            root_device=CPU,
            reduce=lambda _, reduce_op: torch.tensor(free),
            restore_checkpoint_after_setup=False,
        )
        data.trainer = SimpleNamespace(
            overfit_batches=0,  # type: ignore[assignment]
            world_size=2,
            global_rank=1,
            strategy=strategy,
            accumulate_grad_batches=1,
            state=SimpleNamespace(fn="fit"),
            fit_loop=loop,
        )
        return data

    def batches(data: Digits) -> torch.Tensor:
        return torch.cat([batch.indices for batch in data.train_dataloader()])

    needed = len(Digits().train_set) * 3 * 32 * 32
    interrupted = data_module(needed + 8 * 3 * 32 * 32)
    order = batches(interrupted)
    resumed = data_module(9 * needed)
    assert not torch.equal(batches(resumed), order)
    resumed.load_state_dict(interrupted.state_dict())
    assert torch.equal(batches(resumed), order)
