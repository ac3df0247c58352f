"""Batched augmentation against albumentations applied per sample."""

import statistics
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks.results import Result, result
from benchmarks.scripts.baseline_seeds_way import Images
from benchmarks.timing import side_by_side
from cifar_lit.data.albumentations import AlbumentationsPipeline
from cifar_lit.data.augment import Augmentation, Cutout, HorizontalFlip, RandomCrop
from cifar_lit.data.batches import Batch, BatchLoader, EpochSampler, ImageDataset, ImageTensors, identity_collate
from cifar_lit.malloc import keep_freed_memory
from cifar_lit.randomness import SampleRandom

_MEAN = [0.4914, 0.4822, 0.4465]
_BATCH, _BATCHES = 512, 40  # the first two batches take twice as long and would dominate a short run
_CROP_AND_FLIP: list[Augmentation] = [RandomCrop(), HorizontalFlip()]
_WITH_CUTOUT = [*_CROP_AND_FLIP, Cutout()]
_S4 = [RandomCrop(8, "mean"), HorizontalFlip(), Cutout(8, 0.2)]


def _consume(batches: Iterable[object]) -> None:
    """Iterate over the batches without keeping them, as training does."""
    for _ in batches:
        pass


def augmentation(quick: bool) -> list[Result]:
    """Compare batched loading and augmentation with a typical loader and with the same transforms one by one.

    All read through a DataLoader without workers, with no training step between batches. Batched augmentation returns
    uint8 pixels, which the network normalizes on its device. The typical loader (crop, flip, cutout with probability
    0.2, normalization, collation) returns normalized float32; the same transforms one by one return uint8.
    """
    images = ImageTensors(torch.randint(0, 256, (50_000, 3, 32, 32), dtype=torch.uint8), torch.zeros(50_000).long())
    rows = torch.randperm(50_000)[: _BATCH * _BATCHES]
    pad = {"min_height": 40, "min_width": 40, "border_mode": 4}  # reflection, as in RandomCrop
    crop_and_flip = [{"PadIfNeeded": pad}, {"RandomCrop": {"height": 32, "width": 32}}, {"HorizontalFlip": {"p": 0.5}}]
    hole = {name: [8, 8] for name in ("hole_height_range", "hole_width_range")}
    cutout = {"CoarseDropout": {"num_holes_range": [1, 1], **hole, "fill": "mean", "p": 1.0}}

    def loader(pipeline: AlbumentationsPipeline | None = None) -> BatchLoader:
        data = ImageDataset(images, rows, pipeline)
        return BatchLoader(data, _BATCH, sampler=EpochSampler(data, shuffle=True, seed=0), collate_fn=identity_collate)

    def batched(transforms: list[Augmentation]) -> Callable[[], Any]:
        batches = loader()

        def augmented(batch: Batch) -> torch.Tensor:
            random, pixels = SampleRandom(0, 0, batch.indices), batch.pixels
            for transform in transforms:
                pixels = transform(pixels, random, _MEAN)
            return pixels

        return lambda: _consume(map(augmented, batches))

    def one_by_one(transforms: list[dict[str, Any]]) -> Callable[[], Any]:
        batches = loader(AlbumentationsPipeline(transforms, _MEAN, (32, 32)))
        return lambda: _consume(batches)

    baseline = DataLoader(Images(50_000), _BATCH, sampler=rows.tolist())
    calls: dict[str, Callable[[], Any]] = {
        "batched": batched(_CROP_AND_FLIP),
        "batched, cutout": batched(_WITH_CUTOUT),
        "batched, S4": batched(_S4),
        "typical loader": lambda: _consume(baseline),
        "one by one": one_by_one(crop_and_flip),
        "one by one, cutout": one_by_one([*crop_and_flip, cutout]),
    }
    keep_freed_memory()  # as main.py does
    times = side_by_side(calls, 3 if quick else 15)
    pairs = [
        ("without cutout over a typical per-sample loader, 0 workers", "batched", "typical loader", "reported"),
        ("with cutout over a typical per-sample loader, 0 workers", "batched, cutout", "typical loader", "reported"),
        ("of S4 over a typical per-sample loader, 0 workers", "batched, S4", "typical loader", "reported"),
        ("without cutout over the same transforms one by one", "batched", "one by one", "reported"),
        ("with cutout over the same transforms one by one", "batched, cutout", "one by one, cutout", "reported"),
    ]
    speeds = {name: 1000 * _BATCH * _BATCHES / statistics.median(milliseconds) for name, milliseconds in times.items()}
    return [
        result(
            f"batched augmentation {what}",
            [slow / fast for fast, slow in zip(times[ours], times[theirs], strict=True)],
            goal,
            f"{speeds[ours]:,.0f} and {speeds[theirs]:,.0f} images/s",
            quick,
        )
        for what, ours, theirs, goal in pairs
    ]
