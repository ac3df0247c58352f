"""Training speed, as ratios to baselines measured side by side."""

import statistics
from collections.abc import Callable, Sequence

from benchmarks.ablation import ablation
from benchmarks.augmentation import augmentation
from benchmarks.convolutions import convolution_limit
from benchmarks.localization import localization
from benchmarks.photos import photos
from benchmarks.results import HEADER, Result, result, save
from benchmarks.scale import scale
from benchmarks.variants import ROOT, FitVariant, Measurement, Variant, alternate
from callbacks.rendering.markdown import table

_BATCHES = 88  # of 512 images per epoch, from CIFAR-10's 45,000 training images
_DATA = ["--data", "benchmarks.random_images.RandomImages"]
_S4 = ["--config", ROOT / "configs" / "resnet9_s4.yaml", *_DATA]


def speed(quick: bool = False, only: list[str] | None = None) -> None:
    """Measure training speed, print a table, and save it to benchmarks/results.json and RESULTS.md.

    Args:
        quick: Run four of the measurements in few, short rounds, under 5 minutes on 2 cores. Prints without saving.
        only: Names of the measurements to run; all by default.
    """
    known = [measurement.__name__ for measurement in MEASUREMENTS]
    if unknown := set(only or []) - set(known):
        raise SystemExit(f"error: unknown measurement {', '.join(unknown)}; choose from {', '.join(known)}")
    results: list[Result] = []
    for measurement in QUICK if quick and only is None else MEASUREMENTS:
        if only is None or measurement.__name__ in only:
            new = measurement(quick)
            results += new
            if not quick:
                save(new)  # right away, since all measurements together take more than an hour
    print(table(HEADER, [entry.row() for entry in results], raw=True))


def images_per_second(measured: Measurement) -> float:
    """Return the training throughput, excluding the first epoch, which warms up."""
    return sum(measured["images"][1:]) / sum(measured["training"][1:])


def epoch_seconds(measured: Measurement, images: int) -> float:
    """Return the seconds of an epoch of ``images`` training images and evaluation, excluding the warm-up epoch."""
    return images / images_per_second(measured) + statistics.median(measured["evaluation"][1:])


def fit_against_bare_loop(quick: bool) -> list[Result]:
    """Compare ``fit`` with all callbacks, TensorBoard and checkpoints with a bare loop over the same network."""
    batch, batches, held_out, epochs, rounds = (128, 6, 500, 3, 1) if quick else (512, 6, 5000, 3, 3)
    fit = FitVariant(
        *_S4,
        *("--data.batch_size", batch, "--data.val_fraction", held_out / 50_000),
        *("--trainer.limit_train_batches", batches, "--trainer.max_epochs", epochs),
        *("--trainer.log_every_n_steps", 5),  # several times during the measured epochs
    )
    bare = Variant("-m", "benchmarks.scripts.resnet9", batch, batches, held_out, epochs)
    measured = alternate({"fit": fit, "bare loop": bare}, rounds)
    images = _BATCHES * 512
    ratios = [
        epoch_seconds(theirs, images) / epoch_seconds(ours, images)
        for ours, theirs in zip(measured["fit"], measured["bare loop"], strict=True)
    ]
    speeds = {name: statistics.median(map(images_per_second, runs)) for name, runs in measured.items()}
    memory = [
        ours["peak_memory"] / theirs["peak_memory"]
        for ours, theirs in zip(measured["fit"], measured["bare loop"], strict=True)
    ]
    peaks = {name: statistics.median(run["peak_memory"] for run in runs) / 2**30 for name, runs in measured.items()}
    return [
        result(
            "`fit` with everything on, share of a bare loop's speed (ResNet-9, epochs of 88 batches, from a few)",
            ratios,
            "≥ 0.97",
            f"{speeds['fit']:.0f} and {speeds['bare loop']:.0f} images/s in training",
            quick,
        ),
        result(
            "peak memory of `fit` over the bare loop's (ResNet-9, 50,000 random images of CIFAR-10's size)",
            memory,
            "≤ 2",
            f"{peaks['fit']:.2f} and {peaks['bare loop']:.2f} GiB",
            quick,
        ),
    ]


def fit_against_baseline_seeds(quick: bool) -> list[Result]:
    """Compare ``fit`` of S4's ResNet-9 with a script that trains it as the five existing projects do."""
    batch, batches, epochs, rounds = (128, 4, 2, 1) if quick else (512, 5, 2, 3)
    fit = FitVariant(
        *_S4,
        *("--data.batch_size", batch, "--data.val_fraction", 0),
        *("--trainer.limit_train_batches", batches, "--trainer.max_epochs", epochs),
    )
    variants = {
        "fit": fit,
        **{
            f"{workers} workers": Variant(
                "-m", "benchmarks.scripts.baseline_seeds_way", batch, batches, epochs, workers
            )
            for workers in (0, 2)
        },
    }
    measured = alternate(variants, rounds)
    speeds = {name: [images_per_second(run) for run in runs] for name, runs in measured.items()}
    best = [max(pair) for pair in zip(speeds["0 workers"], speeds["2 workers"], strict=True)]
    medians = ", ".join(f"{name} {statistics.median(values):.0f}" for name, values in speeds.items())
    return [
        result(
            "`fit` of S4's ResNet-9 over a typical Lightning script (float32, NCHW, per-sample albumentations)",
            [ours / theirs for ours, theirs in zip(speeds["fit"], best, strict=True)],
            "≥ 2.7",
            f"images/s: {medians}",
            quick,
        )
    ]


def two_processes(quick: bool) -> list[Result]:
    """Measure how well two processes (DDP) of one thread each scale compared with one."""
    batch, batches, rounds = (64, 4, 1) if quick else (256, 6, 3)
    options = [*_S4, "--data.val_fraction", 0, "--trainer.accelerator", "cpu", "--trainer.max_epochs", 2]
    options += ["--trainer.limit_train_batches", batches, "--data.batch_size", batch]
    one_thread = {"OMP_NUM_THREADS": "1"}
    variants = {
        "one": FitVariant(*options, environment=one_thread),
        "two": FitVariant(*options, "--trainer.devices", 2, "--trainer.strategy", "ddp", environment=one_thread),
    }
    measured = alternate(variants, rounds)
    speeds = {name: [images_per_second(run) for run in runs] for name, runs in measured.items()}
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    return [
        result(
            "scaling efficiency: two processes (DDP, gloo, a core each) over twice one process, ResNet-9",
            [two / one / 2 for one, two in zip(speeds["one"], speeds["two"], strict=True)],
            "reported",
            f"{medians['one']:.0f} and {medians['two']:.0f} images/s, {batch} images per process and step",
            quick,
        )
    ]


def price_of_albumentations(quick: bool) -> list[Result]:
    """Compare S4's per-sample albumentations pipeline with the batched equivalent, in ``fit`` of its ResNet-9."""
    batch, batches, rounds = (128, 4, 1) if quick else (512, 5, 3)
    options = [*_S4, "--data.val_fraction", 0, "--trainer.max_epochs", 2]
    options += ["--data.batch_size", batch, "--trainer.limit_train_batches", batches]
    variants = {
        "batched": FitVariant(*options),
        **{
            f"per sample, {workers} workers": FitVariant(
                *options, "--data.route", "per_sample", "--data.num_workers", workers
            )
            for workers in (0, 2)
        },
    }
    measured = alternate(variants, rounds)
    speeds = {name: [images_per_second(run) for run in runs] for name, runs in measured.items()}
    return [
        result(
            f"`fit` of S4's ResNet-9 with its albumentations pipeline, {name}, share of the batched speed",
            [slow / fast for fast, slow in zip(speeds["batched"], speeds[name], strict=True)],
            "reported",
            f"{statistics.median(speeds[name]):.0f} and {statistics.median(speeds['batched']):.0f} images/s",
            quick,
        )
        for name in list(variants)[1:]
    ]


QUICK: Sequence[Callable[[bool], list[Result]]] = (
    fit_against_bare_loop,
    fit_against_baseline_seeds,
    convolution_limit,
    augmentation,
)
MEASUREMENTS = (*QUICK, two_processes, price_of_albumentations, scale, photos, localization, ablation)
