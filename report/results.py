"""Report sections on accuracy, misclassified images and calibration."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from callbacks.rendering.charts import calibration_diagrams
from callbacks.rendering.class_activation_maps import METHOD_NAMES, heatmaps, name_layers
from callbacks.rendering.confusion import confusion_picture
from callbacks.rendering.explanation_grid import explanation_grid
from callbacks.rendering.fonts_and_colors import CORRECT_INK, FAINT_INK, WRONG_INK
from callbacks.rendering.markdown import class_scores_table, confused_pairs_table, escape
from callbacks.rendering.threshold_curves import threshold_curve_charts, thresholds_table
from cifar_lit.errors import InputError
from cifar_lit.evaluation.class_scores import class_scores, most_confused_pairs
from cifar_lit.evaluation.significance import bootstrap_mean, paired_difference, wilson
from cifar_lit.evaluation.threshold_curves import exact_curves
from cifar_lit.evaluation.top_mistakes import rank_mistakes
from cifar_lit.training.checkpointing.checkpoint_files import LAST, read_checkpoint, read_classifier
from report.document import Document, section
from space.export.evaluate import compute_logits, default_heatmap
from space.export.run_data import RunData

CHOSEN_BY_VAL = " The epoch was chosen on the val images, so their accuracy is slightly optimistic."
_BATCH = 64  # images per batch of heatmaps


def write_summary(document: Document, run: RunData) -> None:
    """Write the result in one sentence."""
    height, width = run.classifier.recipe.image_size
    network = f"A classifier of {width}x{height} images into {len(run.class_names)} classes"
    if not run.splits:
        document.finding(f"{network}; there are no images to evaluate it on.")
        return
    correct, images = int(run.correct.sum()), len(run.correct)
    low, high = wilson(correct, images)
    mistakes = images - correct
    rest = f"; {mistakes:,} {'is' if mistakes == 1 else 'are'} not" if mistakes else ""
    document.finding(
        f"{network}: **{correct / images:.2%}** of {images:,} {run.eval_split.name} images are classified correctly"
        f" (95% interval {low:.2%} to {high:.2%}){rest}."
    )


def accuracy_cell(correct: Tensor) -> str:
    """Return the share of correct images, bool (N,), with its 95% interval."""
    number, images = int(correct.sum()), len(correct)
    low, high = wilson(number, images)
    return f"{number / images:.2%} ({low:.2%} to {high:.2%})"


@section("Results")
def write_accuracy(document: Document, run: RunData, seed: int) -> None:
    """Write accuracy and loss with their intervals, the scores of each class, and the confusion matrix."""
    result, rows = run.evaluate(max_mistakes=0), []
    for split in run.splits:
        logits = run.logits[split.name]
        losses = F.cross_entropy(logits, split.labels, reduction="none").double().numpy()
        accuracy = accuracy_cell(logits.argmax(1) == split.labels)
        low, high = bootstrap_mean(losses, seed=seed)
        rows.append([split.name, f"{len(losses):,}", accuracy, f"{losses.mean():.4f} ({low:.4f} to {high:.4f})"])
    document.table(["images", "number", "accuracy (95% interval)", "loss (95% interval)"], rows)
    chosen_by_val = run.checkpoint_run.file.stem == "best" and "val" in run.logits
    document.text(
        "Accuracy with Wilson's score interval; mean cross-entropy with a bootstrap interval. They account for the"
        " sample of images, not for the variation between seeds." + (CHOSEN_BY_VAL if chosen_by_val else "")
    )
    document.text(class_scores_table(class_scores(result.counts), run.class_names))
    title = f"Confusion matrix: number of images\n{run.eval_split.name} · {result.accuracy:.2%} correct"
    picture = confusion_picture(result.counts.numpy(), run.class_names, "counts", title)
    document.picture("confusion", picture, "Confusion matrix", is_chart=True)
    if pairs := most_confused_pairs(result.counts):
        true, predicted, count, share = pairs[0]
        names = [f"**{escape(run.class_names[label])}**" for label in (true, predicted)]
        times = f"{count:,} time{'s' * (count != 1)}"
        document.finding(f"Most often confused: {' as '.join(names)}, {times} ({share:.1%} of the class).")
        document.text("The most confused classes:")
        document.text(confused_pairs_table(pairs, run.class_names))
    _write_threshold_curves(document, run)
    _write_choice(document, run)


def _write_choice(document: Document, run: RunData) -> None:
    """Write how much more accurate the best checkpoint is than the last one, on the images that it was chosen on."""
    file = run.checkpoint_run.file.with_name(LAST)
    if run.checkpoint_run.file.stem != "best" or "val" not in run.logits or not file.is_file():
        return
    last, split, best_logits = read_checkpoint(file), run.splits[0], run.logits["val"]
    if last["global_step"] == run.checkpoint["global_step"]:
        document.text("The best checkpoint is that of the last epoch.")
        return
    classifier = read_classifier(file)
    classifier.network.to(run.classifier.device)
    before, after = (
        (logits.argmax(1) == split.labels.cpu()).numpy() for logits in (compute_logits(classifier, split), best_logits)
    )
    low, high = paired_difference(before, after)
    document.text(
        f"The best checkpoint is that of epoch {run.checkpoint['epoch'] + 1}. Compared with the last one, of epoch"
        f" {last['epoch'] + 1}, its accuracy on the val images differs by {100 * (after.mean() - before.mean()):+.2f}"
        f" points (95% interval {100 * low:+.2f} to {100 * high:+.2f}), not counting that it was chosen on them."
    )


def _write_threshold_curves(document: Document, run: RunData) -> None:
    probabilities = (run.eval_logits / run.classifier.recipe.temperature).softmax(1).cpu()
    curves = exact_curves(probabilities, run.eval_split.labels.cpu())
    document.text(
        "Each class against all others, by its calibrated probability: areas under the curves, and the threshold with"
        " the highest F1 score."
    )
    document.text(thresholds_table(curves, run.class_names))
    document.charts("threshold", threshold_curve_charts(run.class_names, curves, run.eval_split.name), "Each class")


def images_to_show(run: RunData, count: int) -> Tensor:
    """Return int64 (K,), positions in ``eval_split``, K up to ``count``, of the most confident mistakes.

    If there are none, those of the least confident correct images.
    """
    confidences = (run.eval_logits / run.classifier.recipe.temperature).softmax(1).amax(1)
    mistakes = int((~run.correct).sum())
    return rank_mistakes(confidences, ~run.correct)[: min(count, mistakes or count)]


def pixels_of(run: RunData, positions: Tensor) -> Tensor:
    """Return the pixels of images in ``eval_split``, uint8 (K, 3, H, W)."""
    return run.eval_split.images.pixels[run.eval_split.rows[positions]]


@section("Misclassified images")
def write_mistakes(document: Document, run: RunData, count: int) -> None:
    """Write misclassified images with heatmaps of their predicted and their true class.

    If there are none, the least confident images, with heatmaps of their two most likely classes.
    """
    split, names = run.eval_split, run.class_names
    mistakes, shown = int((~run.correct).sum()), images_to_show(run, count)
    probs = (run.eval_logits[shown] / run.classifier.recipe.temperature).softmax(1)
    predicted, second = probs.topk(2).indices.unbind(1)
    true, rows = split.labels[shown].cpu(), split.rows[shown].tolist()
    other, role = (true, "true") if mistakes else (second, "second")
    classes = torch.stack([predicted, other], 1)
    captions = [
        "\n".join([*(f"{names[label]} {image_probs[label]:.0%}" for label in pair), f"#{row}"])
        for pair, image_probs, row in zip(classes.tolist(), probs.tolist(), rows, strict=True)
    ]
    legend = "and its confidence, and the image's index in the dataset."
    if mistakes:
        document.text(
            f"The most confident of {mistakes:,} mistakes on {len(run.correct):,} {split.name} images, each with the"
            f" predicted class and its confidence, the true class {legend}"
        )
    else:
        document.text(
            "None. The least confident images, each with the predicted class and its confidence, the second most likely"
            f" class {legend}"
        )
    pixels = pixels_of(run, shown)
    colors = (WRONG_INK, CORRECT_INK, FAINT_INK) if mistakes else (CORRECT_INK, WRONG_INK, FAINT_INK)
    document.images("misclassified", pixels, captions, f"Images with predicted and {role} class", line_colors=colors)
    if split.images.files:
        cells = [
            [f"#{row}", split.images.files[row], names[label], names[guess]]
            for row, label, guess in zip(rows, true.tolist(), predicted.tolist(), strict=True)
        ]
        document.table(["image", "file", "true class", "predicted class"], cells)
    _write_heatmaps(document, run, pixels, classes, role)


def _write_heatmaps(document: Document, run: RunData, pixels: Tensor, classes: Tensor, role: str) -> None:
    """Write heatmaps of images (N, 3, H, W) for two classes each (N, 2), the predicted and another one."""
    network = run.classifier.network
    inputs = network.preprocess(pixels.to(run.classifier.device))
    layer, method = default_heatmap(run.classifier, run.splits[0], None, None)  # as in a Space
    if not layer:
        raise InputError("no heatmaps, since the network has no feature maps")
    batches = zip(inputs.split(_BATCH), classes.to(inputs.device).split(_BATCH), strict=True)
    try:
        maps = torch.cat([heatmaps(network.net, [layer], *batch, method)[0].cpu() for batch in batches]).numpy()
    except ValueError as error:  # a network that disables gradients
        raise InputError(f"no heatmaps: {error}") from error
    roles = ("predicted", role)
    texts = [
        [f"{name}:\n{run.class_names[label]}" for name, label in zip(roles, pair, strict=True)]
        for pair in classes.tolist()
    ]
    draw = partial(explanation_grid, pixels.permute(0, 2, 3, 1).numpy(), maps, ["image"] * len(texts), texts)
    document.text(
        f"The evidence for the predicted and for the {role} class of each ({METHOD_NAMES[method]} at"
        f" {name_layers(method, [escape(layer)])},"
        " selected for the largest area under the insertion curve; bright: strong evidence, dark: little):"
    )
    document.grid("heatmaps", draw, f"Heatmaps of predicted and {role} class")


@section("Calibration")
def write_calibration(document: Document, run: RunData) -> None:
    """Write the calibration error and the reliability diagram."""
    result = run.evaluate(max_mistakes=0)
    before, after = result.calibration_errors()
    temperature = run.classifier.recipe.temperature
    diagrams = calibration_diagrams(result.calibration.numpy(), (before, after), temperature)
    charts = dict(zip(("as trained", "scaled"), diagrams, strict=True))
    document.charts("calibration", charts, "Accuracy by confidence")
    document.finding(
        f"Confidences are off by **{after:.2%}** on average"
        f"{f'; without temperature scaling, by {before:.2%}' * (temperature != 1)}."
    )
    document.text(
        f"Expected calibration error (ECE) {before:.2%} as trained, {after:.2%} with the logits divided by the"
        f" temperature {temperature:.2f}, which training chose on the validation images."
    )
