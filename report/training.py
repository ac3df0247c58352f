"""What was trained, on what, how, and how to do it again."""

import io
import shlex
import statistics
import time
from collections.abc import Sequence

import numpy as np
import torch
import yaml
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from callbacks.rendering.charts import class_count_chart, learning_curves
from cifar_lit.import_allowlist import OPTION, own_modules
from cifar_lit.inference.model import views
from report.document import Document
from space.export.run_data import RunData
from space.export.run_metadata import config_to_share, recipe_text, run_metadata

_SPEED_SECONDS, _SPEED_ROUNDS = 2.0, 5  # that the speed is measured for, whichever ends first


def write_run(document: Document, evidence: RunData) -> None:
    """BundleMetadata, and the command that repeats the run."""
    document.heading("The run")
    document.table(["", ""], run_metadata(evidence).items())
    if evidence.at_hand.note:
        document.missing("Not all of its images are at hand", evidence.at_hand.note)
    if not evidence.run.in_run_folder:
        document.missing("The command that repeats it", "the checkpoint does not lie in its run's folder")
        return
    head = next(line for line in evidence.run.config.read_text().splitlines() if line)
    config = yaml.safe_dump(config_to_share(evidence.config), sort_keys=False, allow_unicode=True)
    content = f"{head}\n{config}" if head.startswith("#") else config
    link = document.file("config.yaml", content, "config.yaml")
    document.text(f"The same again, with {link} beside the program's main.py:")
    document.code(repeating(evidence, "config.yaml"), "sh")


def write_settings(document: Document, evidence: RunData) -> None:
    """The settings that differ from run to run."""
    document.heading("Settings")
    document.code(recipe_text(evidence), "yaml")


def repeating(evidence: RunData, config: str) -> str:
    """The command that repeats the run with this configuration of it."""
    words = ["uv", "run", "main.py", "fit", "--config", config]
    if "root" in evidence.config.get("data", {}).get("init_args", {}):
        words += ["--data.root", "DIR"]
    for name in own_modules():
        words += [OPTION, name]
    return shlex.join(words)


def write_model(document: Document, evidence: RunData) -> None:
    """The network's parts, their parameters and multiply-adds, and its speed here."""
    document.heading("The network")
    net = evidence.trained.network.net
    device = evidence.trained.device
    size = evidence.trained.recipe.image_size
    pixels = torch.zeros(1, 3, *size, dtype=torch.uint8, device=device)
    of_parts, total = multiply_adds(net, evidence.trained.network.preprocess(pixels))
    rows = []
    for name, part in parts_of(net).items():
        parameters = sum(parameter.numel() for parameter in part.parameters())
        rows.append([name, type(part).__name__, f"{parameters:,}", f"{of_parts[name]:,}"])
    parameters = sum(parameter.numel() for parameter in net.parameters())
    rows.append(["all", type(net).__name__, f"{parameters:,}", f"{total:,}"])
    document.table(["part", "type", "parameters", "multiply-adds an image"], rows)
    document.text("Multiply-adds: of one view, in convolutions, linear layers and attention; nothing else is counted.")
    recipe = evidence.trained.recipe
    seen = sum(1 for _ in views(pixels, recipe.flip_tta, recipe.translate_tta))
    told = f", each seen in {seen} views" if seen > 1 else ""
    document.text(f"Classifies {images_per_second(evidence):,.0f} images/s here ({device}, float32{told}).")


def parts_of(net: nn.Module) -> dict[str, nn.Module]:
    """The network's direct parts by name, each followed by those of its own direct parts that have parameters.

    >>> list(parts_of(nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Flatten())))
    ['0', '0.0', '1']
    """
    found = {}
    for name, part in net.named_children():
        found[name] = part
        for own, below in part.named_children():
            if any(True for _ in below.parameters()):
                found[f"{name}.{own}"] = below
    return found


def multiply_adds(net: nn.Module, inputs: torch.Tensor) -> tuple[dict[str, int], int]:
    """Multiply-adds of one forward pass: of each of ``parts_of(net)`` by name, and in all.

    Of convolutions, matrix products and attention, as torch.utils.flop_counter has them; of nothing else.

    Args:
        net: The network, in evaluation mode.
        inputs: float (1, C, H, W).
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # attention in one piece is not counted
    try:
        with FlopCounterMode(display=False) as counter, torch.inference_mode(False), torch.no_grad():
            net(inputs.clone())
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    root = type(net).__name__
    counts = {name: sum(of_kind.values()) // 2 for name, of_kind in counter.get_flop_counts().items()}
    parts = {name: counts.get(f"{root}.{name}", 0) for name in parts_of(net)}
    return parts, counter.get_total_flops() // 2


def images_per_second(evidence: RunData) -> float:
    """How many images the network classifies in a second, in batches; the median of a few."""
    trained = evidence.trained
    shape = (trained.batch_size, 3, *trained.recipe.image_size)
    pixels = torch.zeros(shape, dtype=torch.uint8, device=trained.device)
    trained.logits(pixels[:8])  # which makes ready what the first images wait for
    taken: list[float] = []
    while not taken or (len(taken) < _SPEED_ROUNDS and sum(taken) < _SPEED_SECONDS):
        start = time.perf_counter()
        trained.logits(pixels).sum().item()  # which waits for the device
        taken.append(time.perf_counter() - start)
    return len(pixels) / statistics.median(taken)


def write_log(document: Document, evidence: RunData) -> None:
    """The log of each epoch, and the curves."""
    document.heading("Training")
    if not evidence.history:
        document.missing("The log and the curves", "there are no TensorBoard files in the run's folder")
        return
    names = [name for name in ("train/loss", "train/accuracy", "val/loss", "val/accuracy") if name in evidence.history]
    header = ["epoch", "step", *(name.replace("/", " ") for name in names)]
    if "lr" in evidence.history:
        header.append("learning rate, last noted")
    known = (evidence.checkpoint["global_step"], evidence.checkpoint["epoch"] + 1)
    document.table(header, epoch_rows(evidence.history, names, known))
    document.picture("curves", learning_curves(evidence.history), "Loss, accuracy and learning rate against the step")
    found = evidence.event_pictures.get("your run/learning-rate finder")
    if found is not None:
        document.text("The search for a learning rate:")
        document.picture("lr_find", np.asarray(Image.open(io.BytesIO(found)).convert("RGB")), "Loss against rate")


def epoch_rows(
    history: dict[str, list[tuple[float, float]]], names: Sequence[str], known: tuple[float, int]
) -> list[list[str]]:
    """A row for each step that was judged: the epoch, if it ended there; the step, the metrics, and the
    learning rate that was noted last since the row before, if one was.

    Args:
        history: Pairs of step and value by the name of the curve.
        names: The metrics.
        known: A step, and the epoch that ended there, from 1, by which the epochs are counted.

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
    first = known[1] - ends.index(known[0]) if known[0] in ends else 1  # more, where a run goes on with another's
    rates = history.get("lr", [])
    rows, before = [], 0.0
    for step in steps:
        row = [str(first + ends.index(step)) if step in ends else "", f"{step:.0f}"]
        row += [f"{curve[step]:.4f}" if step in curve else "" for curve in curves.values()]
        since = [rate for at, rate in rates if before < at <= step]
        if rates:
            row.append(f"{since[-1]:.3g}" if since else "")
        rows.append(row)
        before = step
    return rows


def write_data(document: Document, evidence: RunData) -> None:
    """How many images each class has, and what the network sees of them in training."""
    document.heading("The images")
    if evidence.data is None:
        document.missing("The class counts", evidence.at_hand.note or "the run's data are not at hand")
    else:
        sets = {"train": evidence.data.train_set.labels} | {part.split: part.labels for part in evidence.sets}
        classes = len(evidence.class_names)
        counts = {name: torch.bincount(labels.cpu(), minlength=classes).tolist() for name, labels in sets.items()}
        document.picture("classes", class_count_chart(evidence.class_names, counts), "Images of each class")
    found = evidence.event_pictures.get("your run/training samples")
    if found is None:
        document.missing(
            "Training images as the network sees them", "the run's TensorBoard files hold no picture of them"
        )
    else:
        document.text("Training images as the network sees them, augmented:")
        document.picture("augmented", np.asarray(Image.open(io.BytesIO(found)).convert("RGB")), "Augmented images")
