"""Batched augmentation against albumentations, sample by sample."""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks.results import Result, result
from benchmarks.scripts.systems_way import Images
from benchmarks.timing import side_by_side
from cifar_lit.data.augment import Augmentation, Cutout, HorizontalFlip, RandomCrop
from cifar_lit.data.pipeline import AlbumentationsPipeline
from cifar_lit.randomness import SampleRandom

_MEAN = [0.4914, 0.4822, 0.4465]
_BATCH = 512
_CROP_AND_FLIP: list[Augmentation] = [RandomCrop(), HorizontalFlip()]
_WITH_CUTOUT = [*_CROP_AND_FLIP, Cutout()]


def augmentation(quick: bool) -> list[Result]:
    """Reading and augmenting a whole batch, against the systems' loader, and against the same transforms one by one.

    What is batched ends as uint8 pixels, which the network normalises on its device; the systems' loader (crop, flip,
    cutout with a probability of .2, normalisation, collation) as normalised float32; the same transforms, as theirs
    are, one by one, as uint8.
    """
    pixels = torch.randint(0, 256, (50_000, 3, 32, 32), dtype=torch.uint8)
    rows = torch.randperm(50_000)[:_BATCH]
    pad = {"min_height": 40, "min_width": 40, "border_mode": 4}  # mirrored, as RandomCrop has it
    crop_and_flip = [{"PadIfNeeded": pad}, {"RandomCrop": {"height": 32, "width": 32}}, {"HorizontalFlip": {"p": 0.5}}]
    hole = {name: [8, 8] for name in ("hole_height_range", "hole_width_range")}
    cutout = {"CoarseDropout": {"num_holes_range": [1, 1], **hole, "fill": "mean", "p": 1.0}}

    def batched(transforms: list[Augmentation]) -> Callable[[], torch.Tensor]:
        def read() -> torch.Tensor:
            random, images = SampleRandom(0, 0, rows), pixels.index_select(0, rows)
            for transform in transforms:
                images = transform(images, random, _MEAN)
            return images

        return read

    def one_by_one(transforms: list[dict[str, Any]]) -> Callable[[], torch.Tensor]:
        pipeline = AlbumentationsPipeline(transforms, _MEAN, (32, 32))
        return lambda: pipeline(pixels.index_select(0, rows), 0)

    loader = DataLoader(Images(_BATCH), _BATCH)
    calls: dict[str, Callable[[], Any]] = {
        "batched": batched(_CROP_AND_FLIP),
        "batched, cutout": batched(_WITH_CUTOUT),
        "loader": lambda: next(iter(loader)),
        "one by one": one_by_one(crop_and_flip),
        "one by one, cutout": one_by_one([*crop_and_flip, cutout]),
    }
    times = side_by_side(calls, 5 if quick else 30)
    pairs = [
        ("without cutout over the systems' loader, 0 workers", "batched", "loader", "≥ 60"),
        ("with cutout over the systems' loader, 0 workers", "batched, cutout", "loader", "≥ 19"),
        ("without cutout over the same transforms one by one", "batched", "one by one", "reported"),
        ("with cutout over the same transforms one by one", "batched, cutout", "one by one, cutout", "reported"),
    ]
    speeds = {name: 1000 * _BATCH / statistics.median(found) for name, found in times.items()}
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
