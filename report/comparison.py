"""Several runs side by side."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from callbacks.rendering.charts import compared_curves
from cifar_lit.errors import InputError
from cifar_lit.evaluation.significance import holm, mcnemar, paired_difference, wilson
from report.document import Document
from report.results import CHOSEN_BY_VAL
from space.export.run_data import RunData
from space.export.run_metadata import config_to_share, run_metadata

_BATCH = 1000  # images that are compared at once
_CURVES = ("val/accuracy", "val/loss", "train/loss")


def write_comparison(document: Document, runs: Sequence[RunData]) -> None:
    """Curves and figures of runs side by side, and whether the differences may be chance.

    Args:
        document: The report.
        runs: At least two; the first is what the others are compared with.

    Raises:
        InputError: if they were not judged by the same images.
    """
    document.heading("The runs")
    names, facts = names_of(runs), [run_metadata(one) for one in runs]
    rows = [[name, *(of_run.get(name, "") for of_run in facts)] for name in dict.fromkeys(chain(*facts))]
    document.table(["", *names], [*rows, ["Checkpoint", *(one.place for one in runs)]])
    if all(one.config for one in runs):
        differing = differing_settings([config_to_share(one.config) for one in runs])
        document.text("The settings that differ:" if differing else "All settings are the same.")
        if differing:
            document.table(["setting", *names], differing)
    document.heading("Results")
    lack = None
    if not all(one.sets for one in runs):
        lack = "not all runs have images at hand; --images DIR names some for all"
    elif any(one.class_names != runs[0].class_names for one in runs):
        lack = "the runs tell other classes apart"
    if lack is None:
        _write_differences(document, names, runs)
    else:
        document.missing("Accuracy", lack)
    curves = {
        kind: {name: one.history[kind] for name, one in zip(names, runs, strict=True) if one.history.get(kind)}
        for kind in _CURVES
    }
    shown = {kind: of_runs for kind, of_runs in curves.items() if of_runs}
    if shown:
        document.picture("comparison", compared_curves(shown), "Curves of the runs")
    if lack is None:
        of_classes = [class_accuracies(one) for one in runs]
        document.text("Accuracy on each class:")
        document.table(
            ["class", *names],
            [
                [name, *("" if np.isnan(found[place]) else f"{found[place]:.1%}" for found in of_classes)]
                for place, name in enumerate(runs[0].class_names)
            ],
        )


def differing_settings(configs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A row for each setting that is not the same in all configurations: its name, and its value in each.

    >>> differing_settings([{"seed": 0, "model": {"lr": 0.1}}, {"seed": 0, "model": {"lr": 0.2, "ema": True}}])
    [['model.lr', '0.1', '0.2'], ['model.ema', '', 'True']]
    """
    flat = [dict(_flat(config, "")) for config in configs]
    rows = [[name, *(str(one.get(name, "")) for one in flat)] for name in dict.fromkeys(chain(*flat))]
    return [row for row in rows if len(set(row[1:])) > 1]


def _flat(settings: Any, name: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(settings, Mapping):
        yield name.removesuffix("."), settings
        return
    for part, value in settings.items():
        yield from _flat(value, name if part == "init_args" else f"{name}{part}.")


def _write_differences(document: Document, names: Sequence[str], runs: Sequence[RunData]) -> None:
    first, rows = runs[0], []
    for name, one in zip(names, runs, strict=True):
        if not _same_images(first, one):
            raise InputError(f"{name} was judged by other images than {names[0]}; name the same with --images DIR")
    p_values = iter(holm([mcnemar(first.right.numpy(), one.right.numpy()) for one in runs[1:]]))
    for name, one in zip(names, runs, strict=True):
        right = one.right.numpy()
        low, high = wilson(int(right.sum()), len(right))
        loss = F.cross_entropy(one.logits[one.last.split], one.last.labels)
        row = [name, f"{right.mean():.2%} ({low:.2%} to {high:.2%})", f"{loss:.4f}"]
        if one is first:
            row += ["", ""]
        else:
            low, high = paired_difference(first.right.numpy(), right)
            difference = float(right.mean()) - float(first.right.float().mean())
            row += [f"{difference:+.2%} ({low:+.2%} to {high:+.2%})", f"{next(p_values):.3g}"]
        rows.append(row)
    header = ["run", f"accuracy of {len(first.right):,} {first.last.split} images (95 % interval)", "loss"]
    document.table([*header, "difference of accuracy (95 % interval)", "p"], rows)
    by_val = first.last.split == "val" and any(one.run.file.stem == "best" for one in runs)
    document.text(
        "p: how often so great a difference would come about between two networks that are equally good on such images"
        " (McNemar's exact test against the first run, with Holm's correction for the number of runs). It speaks of"
        " these two networks: another seed gives another network." + (CHOSEN_BY_VAL if by_val else "")
    )
    sizes = {one.trained.recipe.image_size for one in runs}
    if len(sizes) > 1:
        document.text(
            "The networks take images of different sizes: that they saw the same is told by labels and order."
        )


def _same_images(first: RunData, other: RunData) -> bool:
    ours, theirs = first.last, other.last
    return (
        torch.equal(ours.rows, theirs.rows)
        and torch.equal(ours.labels, theirs.labels)
        and (
            first.trained.recipe.image_size != other.trained.recipe.image_size
            or all(map(torch.equal, ours.batches(_BATCH), theirs.batches(_BATCH)))
        )
    )


def names_of(runs: Sequence[RunData]) -> list[str]:
    """The runs' names, from their folders; where some are alike, with their checkpoints and numbers."""
    names = [
        "/".join(one.run.folder.absolute().parts[-2:]) if one.run.in_run_folder else one.run.file.stem for one in runs
    ]
    if len(set(names)) < len(names):
        names = [f"{name} {one.run.file.stem}" for name, one in zip(names, runs, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{number}: {name}" for number, name in enumerate(names, start=1)]
    return names


def class_accuracies(evidence: RunData) -> np.ndarray:
    """float (C,), the share of each class's images that is classified rightly; NaN for a class without images."""
    labels, right = evidence.last.labels.numpy(), evidence.right.numpy()
    classes = len(evidence.class_names)
    with np.errstate(invalid="ignore"):
        found: np.ndarray = np.bincount(labels, right, classes) / np.bincount(labels, minlength=classes)
    return found
