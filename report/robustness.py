"""Report section: accuracy under common corruptions."""

import torch

from callbacks.rendering.charts import curves_chart
from cifar_lit.errors import InputError
from cifar_lit.evaluation.corruptions import EXTRA, KINDS, SEVERITIES
from cifar_lit.evaluation.robustness import evaluate_robustness
from cifar_lit.evaluation.significance import wilson
from cifar_lit.progress import with_progress
from report.document import Document, section
from report.results import pixels_of
from space.export.run_data import RunData


@section("Corrupted images")
def write_robustness(document: Document, run: RunData, max_images: int, seed: int) -> None:
    """Write the accuracy under common corruptions, on a random choice of images."""
    if max_images == 0:
        raise InputError("--robustness_images is 0")
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(run.eval_split.rows), generator=generator)[:max_images].sort().values
    result = evaluate_robustness(
        lambda pixels: run.classifier.logits(pixels, use_tta=False),
        pixels_of(run, chosen),
        run.eval_split.labels[chosen],
        seed,
        lambda steps: with_progress(steps, "Evaluating corrupted images"),
    )
    low, high = wilson(round(result.clean * result.images), result.images)
    document.text(
        f"Accuracy on {result.images:,} {run.eval_split.name} images with corruptions of CIFAR-10-C"
        " ([Hendrycks & Dietterich 2019](https://arxiv.org/abs/1903.12261)) at five severities; without corruption it"
        f" is {result.clean:.1%} (95% interval {low:.1%} to {high:.1%}). As in published results, there is no test-time"
        f" augmentation. **Mean corruption error: {result.mean_error:.1%}**, over 11 of the 15 kinds in the"
        " published mean: glass blur, snow, frost and elastic are not implemented. It leaves out"
        f" {', '.join(EXTRA)}, and is not divided by a baseline's error."
    )
    accuracies = dict(zip(KINDS, result.accuracy, strict=True))
    rows = [
        [kind, *(f"{value:.1%}" for value in values), f"{values.mean():.1%}"] for kind, values in accuracies.items()
    ]
    document.table(["corruption", *map(str, range(1, SEVERITIES + 1)), "mean"], rows, shaded=True)
    worst = min(accuracies, key=lambda kind: float(accuracies[kind].mean()))
    document.finding(
        f"Most harmful corruption: **{worst}**, with {accuracies[worst][-1]:.1%} accuracy at the highest severity"
        f" ({result.clean:.1%} on the same images without corruption)."
    )
    charts = {}
    for kind, values in accuracies.items():
        curve = list(enumerate([result.clean, *values.tolist()]))
        charts[kind] = curves_chart(kind, {kind: curve}, "severity", (0, 1), (2.4, 2.2))
    document.text("Accuracy by severity, from 0 (without corruption):")
    document.charts("robustness", charts, "Accuracy by severity")
