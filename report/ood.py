"""Report section: detection of out-of-distribution images."""

from collections.abc import Mapping

from torch import Tensor

from callbacks.rendering.markdown import escape
from cifar_lit.evaluation.ood import auroc
from report.document import Document, section
from space.export.ood_samples import ood_samples
from space.export.run_data import RunData


@section("Out-of-distribution images")
def write_ood(document: Document, run: RunData, others: Mapping[str, Tensor], seed: int) -> None:
    """Write how well the network detects images that belong to none of its classes.

    Args:
        document: The report.
        run: The run.
        others: Further out-of-distribution images uint8 (N, 3, H, W) by kind.
        seed: Seed of the synthetic images.
    """
    recipe, known = run.classifier.recipe, run.eval_logits
    kinds = ood_samples(256, recipe.image_size, recipe.class_names, seed) | dict(others)
    threshold, logits = run.fit_ood_threshold(kinds)
    areas = {kind: auroc(known, logits[kind]) for kind in kinds}
    same_images = (
        " (5 % by construction: the threshold was fitted on them)"
        if threshold.fitted_on == threshold.evaluated_on
        else ""
    )
    document.text(
        "The energy score ([Liu et al. 2020](https://arxiv.org/abs/2010.03759)) should be higher for images of the"
        " classes than for others; the web page uses it too. AUROC: the probability that it is higher for an image of"
        f" the classes. Images with a score below {threshold.threshold:.2f} are flagged as unknown, including"
        f" {threshold.false_alarms:.1%} of the {threshold.evaluated_on} images{same_images}."
    )
    rows = [[kind, len(kinds[kind]), f"{areas[kind]:.4f}", f"{threshold.found[kind]:.1%}"] for kind in kinds]
    document.table(["kind", "images", "AUROC", "flagged as unknown"], rows)
    if undetected := [kind for kind, area in areas.items() if area <= 0.5]:
        document.text(f"The score does not detect {', '.join(map(escape, undetected))}: an AUROC of 0.5 is chance.")
    if not threshold.useful:
        document.text("Overall the score is not reliable enough: the web page flags no image as unknown.")
