import torch
from torch.utils.data import DataLoader

from cifar_lit.data.albumentations import AlbumentationsPipeline
from cifar_lit.data.batches import Batch, EpochSampler, ImageDataset, ImageTensors, identity_collate


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


def test_a_sample_is_taken_from_the_first_image_to_the_last() -> None:
    assert dataset(100).sample(200)[:, 0, 0, 0].tolist() == list(range(100))
    assert dataset(100).sample(34)[:, 0, 0, 0].tolist() == list(range(0, 100, 3))
    assert dataset(101).sample(60)[[0, -1], 0, 0, 0].tolist() == [
        0,
        100,
    ]  # not only the first classes, of sorted images


def test_order_depends_on_seed_and_epoch_alone() -> None:
    data = dataset(100)
    assert sorted(positions(data)[0]) == list(range(100))
    assert positions(data, 1) == positions(data, 1)
    orders = [positions(data, epoch, seed=seed)[0] for epoch in range(3) for seed in range(3)]
    assert len({tuple(order) for order in orders}) == 9  # seed 1, epoch 0 is not seed 0, epoch 1 either


def test_processes_share_the_samples_in_training_and_count_none_twice_in_evaluation() -> None:
    for count in (1, 2, 7, 10, 11):
        padded = positions(dataset(count), processes=3)
        assert len({len(part) for part in padded}) == 1
        assert {position for part in padded for position in part} == set(range(count))
        exact = positions(dataset(count), processes=3, pad=False)
        assert sorted(position for part in exact for position in part) == list(range(count))


def test_a_batch_is_read_whole_with_its_labels_and_rows() -> None:
    images = dataset(10).images
    held_out = ImageDataset(images, torch.tensor([3, 5, 9]))
    batch = held_out.__getitems__([(0, 2), (0, 0)])
    assert isinstance(batch, Batch)
    assert batch.indices.tolist() == [9, 3]
    assert batch.labels.tolist() == [0, 0]
    assert batch.pixels[:, 0, 0, 0].tolist() == [9, 3]
    assert held_out.labels.tolist() == [0, 2, 0]


def test_albumentations_differ_between_batches_and_epochs_and_repeat_with_any_number_of_workers() -> None:
    pipeline = AlbumentationsPipeline([{"RandomBrightnessContrast": {"p": 1.0}}], (0.5, 0.5, 0.5), (8, 8))
    data = dataset(16, pipeline)
    data.images.pixels[:] = 100

    def epoch(number: int, workers: int) -> torch.Tensor:
        sampler = EpochSampler(data, shuffle=False, seed=0)
        sampler.set_epoch(number)
        loader = DataLoader(data, batch_size=4, sampler=sampler, collate_fn=identity_collate, num_workers=workers)
        return torch.cat([batch.pixels[:, 0, 0, 0] for batch in loader])

    first = epoch(0, 0)
    assert len(first.unique()) > 8  # no two batches, so no two workers, draw the same
    assert torch.equal(first, epoch(0, 2))
    assert torch.equal(first, epoch(0, 4))
    assert not torch.equal(first, epoch(1, 2))
