"""Whether time and memory scale linearly up to a hundred times as many images."""

import statistics
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks.random_images import write_images
from benchmarks.results import Result, result
from benchmarks.variants import ROOT, FitVariant, Measurement, alternate


def scale(quick: bool) -> list[Result]:
    """Measure the marginal cost of an image in ``fit`` with all callbacks, with memory-mapped images.

    An epoch has fixed costs (pictures, a checkpoint), so the marginal cost from the smallest number of images to the
    next is compared with that from there to the largest.
    """
    counts, rounds = ((5_000, 20_000, 50_000), 1) if quick else ((5_000, 50_000, 500_000), 3)
    with tempfile.TemporaryDirectory() as folder:
        variants = {}
        for count in counts:
            file = Path(folder, f"{count}.npy")
            write_images(file, count)
            variants[f"{count:,}"] = FitVariant(
                *("--config", ROOT / "configs" / "quickstart.yaml"),
                *("--data", "benchmarks.random_images.RandomImages"),
                *("--data.count", count, "--data.mapped", file, "--data.augment", "[RandomCrop, HorizontalFlip]"),
                *("--data.batch_size", 500, "--model.net", "TinyNet"),
                *("--trainer.max_epochs", 2 if count == counts[-1] else 6, "--trainer.log_every_n_steps", 50),
            )
        measured = alternate(variants, rounds)
    by_round = list(zip(*measured.values(), strict=True))  # the measurements of all counts, round by round
    times = [_marginal(counts, [_epoch_seconds(run) for run in runs]) for runs in by_round]
    memory = [_marginal(counts, [run["own_memory"] for run in runs]) for runs in by_round]
    peaks = [max(run["own_memory"] for run in runs) / runs[0]["own_memory"] for runs in by_round]
    microseconds = [1e6 * statistics.median(values) for values in zip(*times, strict=True)]
    image_bytes = statistics.median(values[1] for values in memory)
    names = f"from {counts[0]:,} to {counts[1]:,} and from there to {counts[2]:,} images"
    return [
        result(
            "time of a further image, with validation, pictures and checkpoints: of many images over few",
            [second / first for first, second in times],
            "≤ 1.1",
            f"{names}: {microseconds[0]:.0f} and {microseconds[1]:.0f} µs (tiny network)",
            quick,
        ),
        result(
            f"memory that is not mapped, at most, over that with {counts[0]:,} images",
            peaks,
            "≤ 1.1",
            f"{image_bytes:.0f} bytes for each of the last {counts[2] - counts[1]:,} images, whose pixels have 3,072",
            quick,
        ),
    ]


def _marginal(counts: Sequence[int], values: Sequence[float]) -> list[float]:
    """Return the increase per additional image, between successive counts."""
    return [
        (after - before) / (more - few)
        for (few, more), (before, after) in zip(pairwise(counts), pairwise(values), strict=True)
    ]


def _epoch_seconds(measured: Measurement) -> float:
    """Return the median seconds of an epoch with its evaluation, excluding the first, which warms up."""
    return statistics.median(map(sum, zip(measured["training"][1:], measured["evaluation"][1:], strict=True)))
