"""Batched augmentation against the same, sample by sample."""

import statistics

import torch

from benchmarks.results import Result, result
from benchmarks.timing import side_by_side
from cifar_lit.data.augment import Augmentation, Cutout, HorizontalFlip, RandomCrop
from cifar_lit.data.pipeline import AlbumentationsPipeline
from cifar_lit.randomness import SampleRandom

_MEAN = [0.4914, 0.4822, 0.4465]


def augmentation(quick: bool) -> list[Result]:
    """Crop, flip and cutout of a whole batch, against albumentations sample by sample without workers."""
    pixels = torch.randint(0, 256, (50_000, 3, 32, 32), dtype=torch.uint8)
    rows = torch.randperm(50_000)[:512]
    pad = {"min_height": 40, "min_width": 40, "border_mode": 4}  # mirrored, as RandomCrop has it
    crop_and_flip = [{"PadIfNeeded": pad}, {"RandomCrop": {"height": 32, "width": 32}}, {"HorizontalFlip": {"p": 0.5}}]
    hole = {name: [8, 8] for name in ("hole_height_range", "hole_width_range")}
    cutout = {"CoarseDropout": {"num_holes_range": [1, 1], **hole, "fill": "mean", "p": 1.0}}
    kinds: list[tuple[str, list[Augmentation], list[dict], str]] = [
        ("without cutout", [RandomCrop(), HorizontalFlip()], crop_and_flip, "≥ 60"),
        ("with cutout", [RandomCrop(), HorizontalFlip(), Cutout()], [*crop_and_flip, cutout], "≥ 19"),
    ]
    results = []
    for name, batched, transforms, goal in kinds:
        pipeline = AlbumentationsPipeline(transforms, _MEAN, (32, 32))

        def whole_batch(batched: list[Augmentation] = batched) -> torch.Tensor:
            random, images = SampleRandom(0, 0, rows), pixels[rows]
            for each in batched:
                images = each(images, random, _MEAN)
            return images

        def sample_by_sample(pipeline: AlbumentationsPipeline = pipeline) -> torch.Tensor:
            return pipeline(pixels[rows], 0)

        times = side_by_side({"batch": whole_batch, "samples": sample_by_sample}, 5 if quick else 30)
        ratios = [slow / fast for fast, slow in zip(times["batch"], times["samples"], strict=True)]
        per_second = {key: 512_000 / statistics.median(found) for key, found in times.items()}
        figures = f"{per_second['batch']:,.0f} and {per_second['samples']:,.0f} images/s"
        results.append(result(f"batched augmentation over albumentations, {name}", ratios, goal, figures, quick))
    return results
