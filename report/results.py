"""How good a network is, where it fails, and how sure one can be of that."""

import torch
import torch.nn.functional as F
from torch import Tensor

from callbacks.rendering.charts import reliability_diagram
from callbacks.rendering.confusion import confusion_picture
from callbacks.rendering.explanation_grid import explanation_grid
from callbacks.rendering.feature_maps import feature_maps
from callbacks.rendering.grid import image_grid
from callbacks.rendering.heatmaps import heatmaps
from callbacks.rendering.markdown import class_scores_table, confused_pairs_table
from callbacks.rendering.text import FAINT_INK, RIGHT_INK, WRONG_INK
from cifar_lit.evaluation.confusion import class_scores, most_confused_pairs
from cifar_lit.evaluation.result import EvaluationResult
from cifar_lit.evaluation.significance import bootstrap_mean, wilson
from report.document import Document
from space.export.run_data import RunData

CHOSEN_BY_VAL = " The epoch was chosen by the val images, so that their accuracy is a little too good."
_BATCH = 64  # images that heatmaps are made of at once


def write_summary(document: Document, evidence: RunData) -> None:
    """The result in a sentence."""
    height, width = evidence.trained.recipe.image_size
    classes = f"{len(evidence.class_names)} classes of images of {width}x{height} pixels"
    if not evidence.sets:
        document.text(f"A network for {classes}; there were no images at hand to judge it by.")
        return
    right, images = int(evidence.right.sum()), len(evidence.right)
    low, high = wilson(right, images)
    document.text(
        f"A network for {classes}: **{right / images:.2%}** of {images:,} {evidence.last.split} images are right (95 %"
        f" interval {low:.2%} to {high:.2%}); {images - right:,} are not."
    )


def write_accuracy(document: Document, evidence: RunData, judged: EvaluationResult | None, seed: int) -> None:
    """Accuracy and loss with their intervals, scores of each class, and the confusion matrix."""
    document.heading("Results")
    if judged is None:
        document.missing(
            "Everything about accuracy", "there are no images at hand to judge by; --images DIR names some"
        )
        return
    rows = []
    for part in evidence.sets:
        logits = evidence.logits[part.split]
        right = int((logits.argmax(1) == part.labels).sum())
        losses = F.cross_entropy(logits, part.labels, reduction="none").double().numpy()
        low, high = wilson(right, len(losses))
        low_loss, high_loss = bootstrap_mean(losses, seed=seed)
        accuracy = f"{right / len(losses):.2%} ({low:.2%} to {high:.2%})"
        rows.append(
            [part.split, f"{len(losses):,}", accuracy, f"{losses.mean():.4f} ({low_loss:.4f} to {high_loss:.4f})"]
        )
    document.table(["images", "number", "accuracy (95 % interval)", "loss (95 % interval)"], rows)
    chosen = evidence.run.file.stem == "best" and "val" in evidence.logits
    document.text(
        "Accuracy with Wilson's score interval; mean cross-entropy with a bootstrap interval. They tell where this"
        " network's figures on all images of the kind may lie, and nothing of other seeds."
        + (CHOSEN_BY_VAL if chosen else "")
    )
    last = evidence.last
    document.text(class_scores_table(class_scores(judged.counts), evidence.class_names))
    title = f"Confusion matrix: number of images\n{last.split} · {judged.accuracy:.2%} right"
    counts = judged.counts.numpy()
    document.picture("confusion", confusion_picture(counts, evidence.class_names, "counts", title), "Confusion matrix")
    if pairs := most_confused_pairs(judged.counts):
        document.text("The classes that are confused most often:")
        document.text(confused_pairs_table(pairs, evidence.class_names))


def worth_showing(evidence: RunData, count: int) -> Tensor:
    """int64 (up to count,), the places of the most confident mistakes among the images to judge by; where there are no
    mistakes, of the right images that the network is least sure of."""
    logits = evidence.logits[evidence.last.split] / evidence.trained.recipe.temperature
    sure, wrong = logits.softmax(1).amax(1), ~evidence.right
    if not wrong.any():
        return sure.argsort(stable=True)[:count]
    order = sure.masked_fill(evidence.right, -1).argsort(descending=True, stable=True)
    return order[: min(count, int(wrong.sum()))]


def pixels_of(evidence: RunData, places: Tensor) -> Tensor:
    """uint8 (K, 3, H, W) of the images at these places."""
    last = evidence.last
    return last.images.pixels[last.rows[places]]


def write_mistakes(document: Document, evidence: RunData, count: int) -> None:
    """Misclassified images, and what speaks for their predicted and their true class; where there are none, the least
    certain images, and what speaks for their two likeliest classes."""
    document.heading("Misclassified images")
    if not evidence.sets:
        document.missing("Misclassified images", "there are no images at hand to judge by")
        return
    last, names = evidence.last, evidence.class_names
    mistakes, places = int((~evidence.right).sum()), worth_showing(evidence, count)
    probabilities = (evidence.logits[last.split][places] / evidence.trained.recipe.temperature).softmax(1)
    said, second = probabilities.topk(2).indices.unbind(1)
    other, what = (last.labels[places].cpu(), "true") if mistakes else (second, "second")
    classes, rows = torch.stack([said, other], 1), last.rows[places].tolist()
    captions = [
        "\n".join([*(f"{names[one]} {of_image[one]:.0%}" for one in pair), f"#{row}"])
        for pair, of_image, row in zip(classes.tolist(), probabilities.tolist(), rows, strict=True)
    ]
    told = "the predicted class and its confidence, the true class and its, and the image's place in the data set."
    if mistakes:
        all_images = f"{len(evidence.right):,} {last.split} images"
        document.text(f"Of {mistakes:,} mistakes among {all_images}, the most confident ones: {told}")
    else:
        document.text(f"None. The images that it is least sure of: {told.replace('true class', 'second likeliest')}")
    pixels = pixels_of(evidence, places)
    colors = (WRONG_INK, RIGHT_INK, FAINT_INK) if mistakes else (RIGHT_INK, WRONG_INK, FAINT_INK)
    grid = image_grid(pixels.permute(0, 2, 3, 1).numpy(), captions, 5, 160, line_colors=colors)
    document.picture("misclassified", grid, f"Images with predicted and {what} class")
    if last.images.files:
        true = last.labels[places].tolist()
        cells = [
            [f"#{row}", last.images.files[row], names[label], names[one]]
            for row, label, one in zip(rows, true, said.tolist(), strict=True)
        ]
        document.table(["image", "file", "true class", "predicted class"], cells)
    _write_heatmaps(document, evidence, pixels, classes, what)


def _write_heatmaps(document: Document, evidence: RunData, pixels: Tensor, classes: Tensor, what: str) -> None:
    """What speaks for the two classes (N, 2), the predicted one and another, of each of these images (N, 3, H, W)."""
    net = evidence.trained.network.net
    inputs = evidence.trained.network.preprocess(pixels.to(evidence.trained.device))
    layers = list(feature_maps(net, inputs))
    if not layers:
        document.missing("Heatmaps", "the network has no feature maps")
        return
    parts = zip(inputs.split(_BATCH), classes.to(inputs.device).split(_BATCH), strict=True)
    try:
        maps = torch.cat([heatmaps(net, layers[-1:], *part)[0].cpu() for part in parts]).numpy()
    except ValueError as error:  # a network that switches gradients off
        document.missing("Heatmaps", str(error))
        return
    texts = [[evidence.class_names[one] for one in pair] for pair in classes.tolist()]
    columns = [f"predicted · {layers[-1]}", f"{what} · {layers[-1]}"]
    shown = explanation_grid(pixels.permute(0, 2, 3, 1).numpy(), maps, [""] * len(texts), texts, columns)
    document.text(f"What speaks for the predicted and for the {what} class of each (Grad-CAM):")
    document.picture("gradcam", shown, f"Grad-CAM of predicted and {what} class")


def write_calibration(document: Document, evidence: RunData, judged: EvaluationResult | None) -> None:
    """How far the confidence can be trusted."""
    document.heading("Calibration")
    if judged is None:
        document.missing("Calibration", "there are no images at hand to judge by")
        return
    before, after = judged.calibration_errors()
    temperature = evidence.trained.recipe.temperature
    confidence, accuracy, share = judged.calibration.numpy().transpose(1, 0, 2)
    titles = [f"as trained: error {before:.2%}", f"temperature {temperature:.2f}: error {after:.2%}"]
    document.picture(
        "calibration", reliability_diagram(confidence, accuracy, share, titles), "Accuracy against confidence"
    )
    document.text(
        f"Expected calibration error {before:.2%} as trained, {after:.2%} when the logits are divided by"
        f" {temperature:.2f}, the temperature that training chose on the validation images."
    )
