"""Whether a hundred times as many images cost a hundred times as much, and no more."""

import statistics
import tempfile
from pathlib import Path

from benchmarks.arms import FitArm, Measured, alternate
from benchmarks.random_images import write_images
from benchmarks.results import Result, result


def scale(quick: bool) -> list[Result]:
    """Time and memory per image of ``fit`` with all callbacks, over images that are mapped from a file."""
    few, many, rounds = (5_000, 50_000, 1) if quick else (5_000, 500_000, 3)
    with tempfile.TemporaryDirectory() as folder:
        arms = {}
        for count in (few, many):
            file = Path(folder, f"{count}.npy")
            write_images(file, count)
            arms[f"{count:,}"] = FitArm(
                *("--config", "configs/quickstart.yaml", "--data", "benchmarks.random_images.RandomImages"),
                *("--data.count", count, "--data.mapped", file, "--data.augment", "[RandomCrop, HorizontalFlip]"),
                *("--data.batch_size", 500, "--model.net", "TinyNet"),
                *("--trainer.max_epochs", 12 if count == few else 2, "--trainer.log_every_n_steps", 50),
            )
        found = alternate(arms, rounds)
    small, large = found.values()
    times = [_seconds(b, whole=False) / _seconds(a, whole=False) for a, b in zip(small, large, strict=True)]
    whole = [_seconds(b, whole=True) / _seconds(a, whole=True) for a, b in zip(small, large, strict=True)]
    memory = [b["own_memory"] / a["own_memory"] for a, b in zip(small, large, strict=True)]
    micro, micro_whole = (
        [1e6 * statistics.median(_seconds(one, whole) for one in arm) for arm in (small, large)]
        for whole in (False, True)
    )
    gigabytes = [statistics.median(one["own_memory"] for one in arm) / 2**30 for arm in (small, large)]
    names = f"{few:,} and {many:,} images"
    return [
        result(
            f"time per image in training, {many // few} times as many images",
            times,
            "≤ 1.1",
            f"{names}: {micro[0]:.0f} and {micro[1]:.0f} µs (tiny network)",
            quick,
        ),
        result(
            f"the same with the validation of a tenth of them, pictures and checkpoints ({many // few} times as many)",
            whole,
            "≤ 1.1",
            f"{names}: {micro_whole[0]:.0f} and {micro_whole[1]:.0f} µs",
            quick,
        ),
        result(
            f"memory that is not mapped, {many // few} times as many images",
            memory,
            "≤ 1.1",
            f"{names}: {gigabytes[0]:.2f} and {gigabytes[1]:.2f} GiB",
            quick,
        ),
    ]


def _seconds(measured: Measured, whole: bool) -> float:
    """Of training, or of whole epochs, an image, without the first epoch."""
    seconds = sum(measured["training"][1:]) + (sum(measured["evaluation"][1:]) if whole else 0)
    return seconds / sum(measured["images"][1:])
