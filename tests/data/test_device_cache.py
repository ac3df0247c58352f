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
    """Every second image of 22, so that rows and places differ; each is of its row's value."""
    pixels = torch.arange(2 * count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).contiguous()
    images = ImageTensors(pixels, torch.arange(2 * count), [f"{row}.png" for row in range(2 * count)])
    return ImageDataset(images, torch.arange(1, 2 * count, 2), seed=5)


ALL = 2 * 11 * 48  # bytes that are free, of which half is for images: room for the whole data set


def test_images_that_fit_are_held_whole_and_keep_their_names() -> None:
    moved, shared = cache_on_device(dataset(), CPU, ALL, rank=0, processes=1)
    assert not shared
    keys = [(0, place) for place in (3, 0, 10)]
    for ours, theirs in zip(moved.__getitems__(keys), dataset().__getitems__(keys), strict=True):
        assert torch.equal(ours, theirs)
    assert len(moved.images) == 11  # those left out of training are not moved
    batch = moved.__getitems__(keys)
    assert [moved.files[index] for index in batch.indices] == [f"{label}.png" for label in batch.labels.tolist()]


def test_images_that_only_fit_in_parts_are_shared_out() -> None:
    parts = [cache_on_device(dataset(), CPU, 2 * 6 * 48, rank, 2) for rank in range(2)]
    assert all(shared for _, shared in parts)
    names = [part.indices.tolist() for part, _ in parts]
    assert [len(of_rank) for of_rank in names] == [6, 6]  # as many steps for both, so one image twice
    assert sorted({*names[0], *names[1]}) == list(range(1, 22, 2))
    for part, _ in parts:
        batch = part.__getitems__([(0, place) for place in range(6)])
        assert torch.equal(batch.pixels[:, 0, 0, 0].long(), batch.indices)
        assert torch.equal(batch.labels, batch.indices)


def test_images_that_do_not_fit_stay_where_they_are() -> None:
    data = dataset()
    assert cache_on_device(data, CPU, device_cache.free_memory(CPU), 0, 2) == (data, False)
    data.pipeline = lambda pixels, seed: pixels  # albumentations works on the host
    assert cache_on_device(data, CPU, ALL, 0, 1) == (data, False)


def test_a_run_that_goes_on_keeps_its_order_whatever_is_free_now() -> None:
    for free, before, where in [(ALL, True, True), (ALL, False, False), (ALL // 2 + 48, False, False)]:
        assert cache_on_device(dataset(), CPU, free, 0, 2, before)[1] is where
    data = dataset()
    assert cache_on_device(data, CPU, ALL // 2 + 48, 0, 2, False)[0] is data  # from the host, not in shares
    share, _ = cache_on_device(dataset(), CPU, ALL, 1, 2, True)
    crowded, shared = cache_on_device(dataset(), CPU, 0, 1, 2, True)
    assert shared
    assert len(crowded.images) == 22  # left on the host
    data.pipeline = lambda pixels, seed: pixels
    augmented, shared = cache_on_device(data, CPU, ALL, 1, 2, True)
    assert shared
    assert augmented.pipeline is data.pipeline
    keys = [(0, place) for place in (3, 0, 5)]
    for part in (crowded, augmented):
        for ours, theirs in zip(part.__getitems__(keys), share.__getitems__(keys), strict=True):
            assert torch.equal(ours, theirs)


def test_fewer_images_than_processes_are_refused() -> None:
    data = Digits()
    data.trainer = SimpleNamespace(world_size=2000, global_rank=0)  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"2000 processes cannot share \d+ images: choose fewer --trainer.devices"):
        data.val_dataloader()


def test_processes_that_hold_a_share_each_train_on_all_images_in_as_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Digits(batch_size=64)
    needed = len(data.train_set) * 3 * 32 * 32
    half = needed + 8 * 3 * 32 * 32  # of which half is for images
    monkeypatch.setattr("cifar_lit.data.datamodule.free_memory", lambda device: 9 * half)  # here; less elsewhere
    seen = []
    for rank in range(2):
        strategy = SimpleNamespace(root_device=CPU, reduce=lambda free, reduce_op: torch.tensor(half))
        data.trainer = SimpleNamespace(world_size=2, global_rank=rank, strategy=strategy)  # type: ignore[assignment]
        seen.append([batch.indices for batch in data.train_dataloader()])
    assert len(seen[0]) == len(seen[1]) == 11
    rows = torch.cat([*seen[0], *seen[1]])
    assert torch.equal(rows.unique(), data.train_set.rows.sort().values)
    assert len(rows) - len(rows.unique()) <= 1
    assert not torch.equal(seen[0][0].sort().values, seen[0][0])  # shuffled


def test_a_resumed_run_shuffles_its_shares_again_though_all_images_would_fit_now() -> None:
    def of(free: int) -> Digits:
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
        data.trainer = SimpleNamespace(  # type: ignore[assignment]
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
    begun = of(needed + 8 * 3 * 32 * 32)
    order = batches(begun)
    roomy = of(9 * needed)
    assert not torch.equal(batches(roomy), order)
    roomy.load_state_dict(begun.state_dict())
    assert torch.equal(batches(roomy), order)
