"""Whether a hundred times as many images cost a hundred times as much, and no more."""

import statistics
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks.random_images import write_images
from benchmarks.results import Result, result
from benchmarks.variants import ROOT, FitVariant, Measured, alternate


def scale(quick: bool) -> list[Result]:
    """What each further image costs in ``fit`` with all callbacks, over images that are mapped from a file.

    An epoch has costs of its own (pictures, a checkpoint), which many images share: so what is compared is the cost of
    the images that come on top, from the least number to ten times as many, and from there to ten times as many again.
    """
    counts, rounds = ((5_000, 20_000, 50_000), 1) if quick else ((5_000, 50_000, 500_000), 3)
    with tempfile.TemporaryDirectory() as folder:
        arms = {}
        for count in counts:
            file = Path(folder, f"{count}.npy")
            write_images(file, count)
            arms[f"{count:,}"] = FitVariant(
                *("--config", ROOT / "configs" / "quickstart.yaml"),
                *("--data", "benchmarks.random_images.RandomImages"),
                *("--data.count", count, "--data.mapped", file, "--data.augment", "[RandomCrop, HorizontalFlip]"),
                *("--data.batch_size", 500, "--model.net", "TinyNet"),
                *("--trainer.max_epochs", 2 if count == counts[-1] else 6, "--trainer.log_every_n_steps", 50),
            )
        found = alternate(arms, rounds)
    measured = list(zip(*found.values(), strict=True))  # for each round, what each count gave
    times = [_marginal(counts, [_epoch_seconds(one) for one in together]) for together in measured]
    memory = [_marginal(counts, [one["own_memory"] for one in together]) for together in measured]
    most = [max(one["own_memory"] for one in together) / together[0]["own_memory"] for together in measured]
    micro = [1e6 * statistics.median(of_step) for of_step in zip(*times, strict=True)]
    each = statistics.median(of_round[1] for of_round in memory)
    names = f"from {counts[0]:,} to {counts[1]:,} and from there to {counts[2]:,} images"
    return [
        result(
            "time of a further image, with validation, pictures and checkpoints: of many images over few",
            [second / first for first, second in times],
            "≤ 1.1",
            f"{names}: {micro[0]:.0f} and {micro[1]:.0f} µs (tiny network)",
            quick,
        ),
        result(
            f"memory that is not mapped, at most, over that with {counts[0]:,} images",
            most,
            "≤ 1.1",
            f"{each:.0f} bytes for each of the last {counts[2] - counts[1]:,} images, whose pixels have 3,072",
            quick,
        ),
    ]


def _marginal(counts: Sequence[int], values: Sequence[float]) -> list[float]:
    """What each further image adds, between successive counts."""
    return [
        (after - before) / (more - few)
        for (few, more), (before, after) in zip(pairwise(counts), pairwise(values), strict=True)
    ]


def _epoch_seconds(measured: Measured) -> float:
    """Of a whole epoch after the first, which warms up."""
    return statistics.median(map(sum, zip(measured["training"][1:], measured["evaluation"][1:], strict=True)))
