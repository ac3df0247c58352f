"""Report sections on the run: its settings, network, curves and data."""

import copy
import io
import shlex
import statistics
import time
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
import yaml
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from callbacks.rendering.charts import class_count_chart, learning_curves
from callbacks.training_samples import training_samples_grid
from cifar_lit.errors import InputError
from cifar_lit.import_allowlist import allow_options
from cifar_lit.inference.model import tta_views
from cifar_lit.tensorboard_tags import DATA
from report.document import Document, section
from space.export.run_data import RunData
from space.export.run_metadata import config_to_share, recipe_text, run_metadata

_SPEED_SECONDS, _SPEED_ROUNDS = 2.0, 5  # of the speed measurement, whichever ends first
_SAMPLES = 20  # augmented training images


@section("The run")
def write_run(document: Document, run: RunData, options: Sequence[str]) -> None:
    """Write the run's metadata, the command of the report with its options, and the one that trains again."""
    document.table(["", ""], run_metadata(run).items())
    if run.note:
        document.missing("Some images are not available", run.note)
    document.text("This report was written by:")
    document.code(shlex.join(["uv", "run", "main.py", "report", "--ckpt_path", run.checkpoint_name, *options]), "sh")
    if not run.checkpoint_run.in_run_folder:
        raise InputError("no command to train it again, since the checkpoint is not in its run's folder")
    head = next(line for line in run.checkpoint_run.config.read_text().splitlines() if line)
    config = yaml.safe_dump(config_to_share(run.config), sort_keys=False, allow_unicode=True)
    content = f"{head}\n{config}" if head.startswith("#") else config
    link = document.file("config.yaml", content, "config.yaml")
    document.text(f"To train the network again, put {link} in the folder of main.py and run:")
    words = ["uv", "run", "main.py", "fit", "--config", "config.yaml", *allow_options()]
    has_root = "root" in run.config.get("data", {}).get("init_args", {})
    document.code(shlex.join([*words, *["--data.root", "DIR"] * has_root]), "sh")


@section("Settings")
def write_settings(document: Document, run: RunData) -> None:
    """Write the most important settings."""
    document.code(recipe_text(run), "yaml")


@section("The network")
def write_model(document: Document, run: RunData) -> None:
    """Write the network's modules with their parameters and multiply-adds, and its speed on this machine."""
    classifier, recipe = run.classifier, run.classifier.recipe
    net, device = classifier.network.net, classifier.device
    pixels = torch.zeros(1, 3, *recipe.image_size, dtype=torch.uint8, device=device)
    counts, total = multiply_adds(net, classifier.network.preprocess(pixels))
    modules = [(name, module, counts[name]) for name, module in modules_of(net).items()] + [("all", net, total)]
    rows = [
        [name, type(module).__name__, f"{sum(weight.numel() for weight in module.parameters()):,}", f"{count:,}"]
        for name, module, count in modules
    ]
    document.table(["module", "type", "parameters", "multiply-adds per image"], rows)
    document.text("Multiply-adds of one view, in convolutions, linear layers and attention only.")
    views = sum(1 for _ in tta_views(pixels, recipe.flip_tta, recipe.translate_tta))
    augmented = f", test-time augmentation with {views} views" if views > 1 else ""
    document.text(f"Speed on this machine: {images_per_second(run):,.0f} images/s ({device}, float32{augmented}).")


def modules_of(net: nn.Module) -> dict[str, nn.Module]:
    """Return the network's children by name, each followed by its own children with parameters.

    >>> list(modules_of(nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Flatten())))
    ['0', '0.0', '1']
    """
    modules = {}
    for name, child in net.named_children():
        modules[name] = child
        for inner_name, inner in child.named_children():
            if any(True for _ in inner.parameters()):
                modules[f"{name}.{inner_name}"] = inner
    return modules


def multiply_adds(net: nn.Module, inputs: torch.Tensor) -> tuple[dict[str, int], int]:
    """Return the multiply-adds of a forward pass, of each of ``modules_of(net)`` by name, and in all.

    Counts convolutions, matrix products and attention, as torch.utils.flop_counter does.

    Args:
        net: The network, in evaluation mode.
        inputs: float (1, C, H, W).
    """
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # fused attention is not counted
    try:
        with FlopCounterMode(display=False) as counter, torch.inference_mode(False), torch.no_grad():
            net(inputs.clone())
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    root = type(net).__name__
    flops = {name: sum(by_operator.values()) for name, by_operator in counter.get_flop_counts().items()}
    counts = {name: flops.get(f"{root}.{name}", 0) // 2 for name in modules_of(net)}
    return counts, counter.get_total_flops() // 2


def images_per_second(run: RunData) -> float:
    """Return the median speed of classification over a few batches, in images per second."""
    classifier = run.classifier
    shape = (classifier.batch_size, 3, *classifier.recipe.image_size)
    pixels = torch.zeros(shape, dtype=torch.uint8, device=classifier.device)
    classifier.logits(pixels[:8])  # warm-up
    seconds: list[float] = []
    while not seconds or (len(seconds) < _SPEED_ROUNDS and sum(seconds) < _SPEED_SECONDS):
        start = time.perf_counter()
        classifier.logits(pixels).sum().item()  # waits for the device
        seconds.append(time.perf_counter() - start)
    return len(pixels) / statistics.median(seconds)


@section("Training")
def write_log(document: Document, run: RunData) -> None:
    """Write the metrics of each epoch, and the curves."""
    if not run.history:
        raise InputError("there are no TensorBoard files in the run's folder")
    names = [name for name in ("train/loss", "train/accuracy", "val/loss", "val/accuracy") if name in run.history]
    header = ["epoch", "step", *(name.replace("/", " ") for name in names)]
    if "lr" in run.history:
        header.append("last learning rate")
    known = (run.checkpoint["global_step"], run.checkpoint["epoch"] + 1)
    document.table(header, epoch_rows(run.history, names, known))
    document.charts("curves", learning_curves(run.history), "Learning curve")
    if png := run.event_pictures.get(f"{DATA}/learning-rate finder"):
        document.text("The learning rate search:")
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        document.picture("lr_find", pixels, "Loss by learning rate", is_chart=True)


def epoch_rows(
    history: dict[str, list[tuple[float, float]]], names: Sequence[str], known: tuple[float, int]
) -> list[list[str]]:
    """Return a row for each step with metrics: epoch if it ended there, step, metrics, last learning rate if logged.

    Args:
        history: Pairs of step and value, by the name of the curve.
        names: The metrics.
        known: A step and the epoch that ended there, counted from 1, from which the others are derived.

    >>> history = {"train/loss": [(10, 2.0), (20, 1.0)], "val/loss": [(5, 3.0), (10, 2.5)]}
    >>> history["lr"] = [(9, 0.1), (19, 0.05)]
    >>> for row in epoch_rows(history, ["train/loss", "val/loss"], known=(20, 7)):
    ...     print(row)
    ['', '5', '', '3.0000', '']
    ['6', '10', '2.0000', '2.5000', '0.1']
    ['7', '20', '1.0000', '', '0.05']
    """
    curves = {name: dict(history[name]) for name in names}
    steps = sorted({step for curve in curves.values() for step in curve})
    ends = sorted(curves.get("train/loss", {})) or steps
    first = known[1] - ends.index(known[0]) if known[0] in ends else 1  # above 1 if another run was resumed
    rates = history.get("lr", [])
    rows, previous = [], 0.0
    for step in steps:
        row = [str(first + ends.index(step)) if step in ends else "", f"{step:.0f}"]
        row += [f"{curve[step]:.4f}" if step in curve else "" for curve in curves.values()]
        recent = [rate for rate_step, rate in rates if previous < rate_step <= step]
        if rates:
            row.append(f"{recent[-1]:.3g}" if recent else "")
        rows.append(row)
        previous = step
    return rows


@section("The images")
def write_data(document: Document, run: RunData) -> None:
    """Write augmented training images, and the number of images of each class."""
    labels = {"train": run.training_data.train_set.labels} | {split.name: split.labels for split in run.splits}
    classes = len(run.class_names)
    counts = {name: torch.bincount(values.cpu(), minlength=classes).tolist() for name, values in labels.items()}
    document.picture("classes", class_count_chart(run.class_names, counts), "Images of each class", is_chart=True)
    data = copy.copy(run.training_data)
    data.batch_size, data.num_workers = _SAMPLES, 0
    batch = data.augmented(next(iter(data.train_dataloader())))
    document.text("Augmented training images, as at the beginning of a training:")
    draw = partial(training_samples_grid, batch, run.class_names, _SAMPLES)
    document.grid("augmented", draw, "Augmented training images")
