from types import SimpleNamespace

import pytest
import torch

from cifar_lit.data.batches import ImageDataset, ImageTensors
from cifar_lit.data.digits import Digits
from cifar_lit.data.loader import cache_on_device, free_memory
from cifar_lit.errors import InputError

CPU = torch.device("cpu")


def dataset(count: int = 11) -> ImageDataset:
    """Return every second of 22 images, so that rows and positions differ; pixels have the value of their row."""
    pixels = torch.arange(2 * count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).contiguous()
    images = ImageTensors(pixels, torch.arange(2 * count), [f"{row}.png" for row in range(2 * count)])
    return ImageDataset(images, torch.arange(1, 2 * count, 2), seed=5)


ALL = 2 * 11 * 48  # free bytes that are enough for the dataset, which may take half of them


def test_images_that_fit_are_cached_with_their_indices_and_files() -> None:
    cached = cache_on_device(dataset(), CPU, ALL)
    keys = [(0, position) for position in (3, 0, 10)]
    for actual, expected in zip(cached.__getitems__(keys), dataset().__getitems__(keys), strict=True):
        assert torch.equal(actual, expected)
    assert len(cached.images) == 11  # held-out images are not cached
    batch = cached.__getitems__(keys)
    assert [cached.files[index] for index in batch.indices] == [f"{label}.png" for label in batch.labels.tolist()]


def test_images_that_do_not_fit_or_need_albumentations_stay_on_the_host() -> None:
    data = dataset()
    assert cache_on_device(data, CPU, ALL - 1) is data
    assert cache_on_device(data, CPU, free_memory(CPU)) is data
    data.pipeline = lambda pixels, seed: pixels
    assert cache_on_device(data, CPU, ALL) is data


def test_fewer_images_than_processes_are_refused() -> None:
    data = Digits()
    data.trainer = SimpleNamespace(overfit_batches=0, world_size=2000, global_rank=0)  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"2000 processes cannot share \d+ images; reduce --trainer.devices"):
        data.val_dataloader()
