"""Comparison of several runs."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F

from callbacks.rendering.charts import curves_chart
from cifar_lit.errors import InputError
from cifar_lit.evaluation.class_scores import class_scores
from cifar_lit.evaluation.significance import holm, mcnemar, paired_difference
from report.document import Document
from report.results import CHOSEN_BY_VAL, accuracy_cell
from space.export.run_data import RunData
from space.export.run_metadata import config_to_share, run_metadata

_BATCH = 1000  # images to compare at once
_CURVES = ("val/accuracy", "val/loss", "train/loss")


def write_comparison(document: Document, runs: Sequence[RunData]) -> None:
    """Write settings, results and curves of runs in columns, with the significance of the differences.

    Args:
        document: The report.
        runs: At least two; the others are compared with the first.

    Raises:
        InputError: if they were not evaluated on the same images.
    """
    document.heading("The runs")
    names, metadata = names_of(runs), [run_metadata(run) for run in runs]
    rows = [[key, *(values.get(key, "") for values in metadata)] for key in dict.fromkeys(chain(*metadata))]
    document.table(["", *names], [*rows, ["Checkpoint", *(run.checkpoint_name for run in runs)]])
    if all(run.config for run in runs):
        differing = differing_settings([config_to_share(run.config) for run in runs])
        document.text("The settings that differ:" if differing else "All settings are the same.")
        if differing:
            document.table(["setting", *names], differing)
    document.heading("Results")
    missing = None
    if not all(run.splits for run in runs):
        missing = "not all runs have images to evaluate on; pass images for all of them with --images DIR"
    elif any(run.class_names != runs[0].class_names for run in runs):
        missing = "the runs have different classes"
    if missing is None:
        _write_differences(document, names, runs)
    else:
        document.missing("Accuracy", missing)
    charts = {}
    for curve in _CURVES:
        lines = {name: run.history.get(curve, []) for name, run in zip(names, runs, strict=True)}
        if any(lines.values()):
            charts[curve] = curves_chart(curve.replace("/", " "), lines)
    if charts:
        document.charts("comparison", charts, "Curves of the runs")
    if missing is None:
        scores = [class_scores(run.evaluate(max_mistakes=0).counts) for run in runs]
        document.text("Accuracy on each class:")
        document.table(
            ["class", *names],
            [
                [name, *(f"{score.recall:.1%}" if score.images else "" for score in of_runs)]
                for name, *of_runs in zip(runs[0].class_names, *scores, strict=True)
            ],
        )


def differing_settings(configs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return a row for each setting that differs between configurations: its name, and its value in each.

    >>> differing_settings([{"seed": 0, "model": {"lr": 0.1}}, {"seed": 0, "model": {"lr": 0.2, "ema": True}}])
    [['model.lr', '0.1', '0.2'], ['model.ema', '', 'True']]
    """
    flat = [dict(_flat(config, "")) for config in configs]
    rows = [[name, *(str(settings.get(name, "")) for settings in flat)] for name in dict.fromkeys(chain(*flat))]
    return [row for row in rows if len(set(row[1:])) > 1]


def _flat(settings: Any, name: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(settings, Mapping):
        yield name.removesuffix("."), settings
        return
    for key, value in settings.items():
        yield from _flat(value, name if key == "init_args" else f"{name}{key}.")


def _write_differences(document: Document, names: Sequence[str], runs: Sequence[RunData]) -> None:
    first, rows = runs[0], []
    for name, run in zip(names, runs, strict=True):
        if not _same_images(first, run):
            raise InputError(f"{name} was not evaluated on the same images as {names[0]}; set them with --images DIR")
    baseline, split = first.correct.numpy(), first.eval_split.name
    p_values = holm([mcnemar(baseline, run.correct.numpy()) for run in runs[1:]])
    for name, run, p_value in zip(names, runs, [None, *p_values], strict=True):
        correct = run.correct.numpy()
        loss = F.cross_entropy(run.eval_logits, run.eval_split.labels)
        row = [name, accuracy_cell(run.correct), f"{loss:.4f}", "", ""]
        if p_value is not None:
            low, high = paired_difference(baseline, correct)
            difference = float(correct.mean() - baseline.mean())
            row[3:] = f"{difference:+.2%} ({low:+.2%} to {high:+.2%})", f"{p_value:.3g}"
        rows.append(row)
    header = ["run", f"accuracy on {len(baseline):,} {split} images (95% interval)", "loss"]
    document.table([*header, "difference in accuracy (95% interval)", "p"], rows)
    by_val = split == "val" and any(run.checkpoint_run.file.stem == "best" for run in runs)
    document.text(
        "p: probability of a difference at least this large between two equally good networks (McNemar's exact test"
        " against the first run, with Holm's correction for the number of runs). It applies to these two networks, not"
        " to other seeds." + (CHOSEN_BY_VAL if by_val else "")
    )
    if len({run.classifier.recipe.image_size for run in runs}) > 1:
        document.text("The networks have different image sizes; only their labels were compared.")


def _same_images(first: RunData, other: RunData) -> bool:
    ours, theirs = first.eval_split, other.eval_split
    return (
        torch.equal(ours.rows, theirs.rows)
        and torch.equal(ours.labels, theirs.labels)
        and (
            first.classifier.recipe.image_size != other.classifier.recipe.image_size
            or all(map(torch.equal, ours.batches(_BATCH), theirs.batches(_BATCH)))
        )
    )


def names_of(runs: Sequence[RunData]) -> list[str]:
    """Return the runs' names, from their folders; duplicates get the checkpoint's name, and then a number."""
    checkpoints = [run.checkpoint_run for run in runs]
    names = ["/".join(one.folder.absolute().parts[-2:]) if one.in_run_folder else one.file.stem for one in checkpoints]
    if len(set(names)) < len(names):
        names = [f"{name} {one.file.stem}" for name, one in zip(names, checkpoints, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{number}: {name}" for number, name in enumerate(names, start=1)]
    return names
