"""Photos of mixed sizes at 224 pixels: decoding, a start with decoded images, and training a small network."""

import statistics
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.results import Result, result
from benchmarks.variants import ROOT, FitVariant, Variant, alternate

_CLASSES, _SIDES, _SIZE = 5, (240, 900), 224


def photos(quick: bool) -> list[Result]:
    """Compare decoding with two processes of PIL, and ``fit`` with a bare loop on the same decoded images."""
    count, batches, rounds = (200, 3, 1) if quick else (5000, 12, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_photos(folder / "photos", count)
        script, cache = ("-m", "benchmarks.scripts.photos"), folder / "cache"
        decoding = alternate(
            {
                kind: Variant(*script, kind, folder / "photos", folder / f"{kind}_cache")
                for kind in ("decode", "two_processes")
            },
            rounds,
        )
        Variant(*script, "decode", folder / "photos", cache).measure()
        starts = [Variant(*script, "start", folder / "photos", cache).measure()["seconds"] for _ in range(rounds)]
        fit = FitVariant(
            *("--config", ROOT / "configs" / "own_images.yaml", "--data.root", folder / "photos"),
            *("--data.image_size", _SIZE, "--data.cache_dir", cache, "--data.batch_size", 32, "--data.augment"),
            '[{"class_path": "RandomResizedCrop"}, "HorizontalFlip"]',
            *("--model.net", "torchvision.models.mobilenet_v3_small", "--trainer.precision", "32-true"),
            *("--trainer.limit_train_batches", batches, "--trainer.max_epochs", 3, "--trainer.limit_val_batches", 0),
        )
        bare = Variant(*script, "train", folder / "photos", cache, batches, 3)
        training = alternate({"fit": fit, "bare loop": bare}, rounds)
    pairs = list(zip(decoding["two_processes"], decoding["decode"], strict=True))
    rates = {kind: statistics.median(count / run["seconds"] for run in runs) for kind, runs in decoding.items()}
    speeds = {
        kind: [sum(run["images"][1:]) / sum(run["training"][1:]) for run in runs] for kind, runs in training.items()
    }
    medians = {kind: statistics.median(values) for kind, values in speeds.items()}
    return [
        result(
            f"decoding {count:,} photos to {_SIZE}x{_SIZE}: speed over two processes with PIL",
            [plain["seconds"] / ours["seconds"] for plain, ours in pairs],
            "≥ 1",
            f"{rates['decode']:.0f} and {rates['two_processes']:.0f} images/s",
            quick,
        ),
        result(
            f"seconds until {count:,} decoded photos are available in the next run, without imports",
            starts,
            "< 2",
            f"{statistics.median(starts):.2f} s",
            quick,
        ),
        result(
            f"`fit` of MobileNetV3-Small at {_SIZE}x{_SIZE} with random resized crops, share of a bare loop's speed",
            [ours / theirs for ours, theirs in zip(speeds["fit"], speeds["bare loop"], strict=True)],
            "≥ 0.95",
            f"{medians['fit']:.1f} and {medians['bare loop']:.1f} images/s",
            quick,
        ),
    ]


def _write_photos(folder: Path, count: int) -> None:
    """Write JPEG files of mixed sizes, smooth with some noise, into class folders."""
    random = np.random.default_rng(0)
    for number in range(count):
        target = folder / f"class_{number % _CLASSES}"
        target.mkdir(parents=True, exist_ok=True)
        width, height = random.integers(*_SIDES, 2).tolist()
        coarse = Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize((width, height))
        noise = random.integers(-12, 12, (height, width, 1), dtype=np.int16)
        pixels = (np.asarray(coarse, np.int16) + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(target / f"{number:05}.jpg", quality=88)
