"""How well a network notices images that are none of its classes."""

from collections.abc import Mapping

from torch import Tensor

from callbacks.rendering.markdown import escape
from cifar_lit.evaluation.ood import auroc
from report.document import Document
from space.export.ood_samples import ood_samples
from space.export.run_data import RunData


def write_ood(document: Document, evidence: RunData, others: Mapping[str, Tensor], seed: int) -> None:
    """How well the network notices images that are none of its classes.

    Args:
        document: The report.
        evidence: What it is written from.
        others: Further images that are none of the classes, by kind, uint8 (N, 3, H, W).
        seed: Of the images that are made.
    """
    document.heading("Images of something else")
    if not evidence.sets:
        document.missing("Unknown images", "there are no images at hand to compare them with")
        return
    recipe = evidence.trained.recipe
    kinds = ood_samples(256, recipe.image_size, recipe.class_names, seed) | dict(others)
    found, logits = evidence.unknown(kinds)
    known = evidence.logits[evidence.last.split]
    areas = {kind: auroc(known, of_kind) for kind, of_kind in logits.items()}
    by_choice = " (5 % by choice: they are the images that the threshold was chosen on)"
    document.text(
        "The energy of the logits ([Liu et al. 2020](https://arxiv.org/abs/2010.03759)) is to tell images of the"
        " classes from others; the page shows the same. AUROC: how often an image of the classes has"
        f" more of it than one of the others. Below {found.threshold:.2f} an image is called unknown:"
        f" {found.false_alarms:.1%} of the {found.judged_on} images are, wrongly"
        f"{by_choice if len(evidence.sets) < 2 else ''}."
    )
    rows = [[kind, len(kinds[kind]), f"{areas[kind]:.4f}", f"{found.found[kind]:.1%}"] for kind in kinds]
    document.table(["images of something else", "number", "AUROC", "called unknown"], rows)
    if misjudged := [kind for kind, area in areas.items() if area <= 0.5]:
        document.text(
            f"An AUROC of 0.5 is chance: in {', '.join(map(escape, misjudged))} this network sees as much as in images"
            " of its classes, so its energy tells nothing of them."
        )
    if not found.useful:
        document.text("All in all it tells too little: the page of this network calls no image unknown.")
