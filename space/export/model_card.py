"""The model card: a Space's README, whose beginning is the text of its last tab."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from string import Template

from huggingface_hub import SpaceCardData

from callbacks.rendering.class_activation_maps import METHOD_NAMES, Method, name_layers
from callbacks.rendering.markdown import class_scores_table, confused_pairs_table, escape, table
from cifar_lit.evaluation.class_scores import class_scores, most_confused_pairs
from cifar_lit.evaluation.ood import OODThreshold
from cifar_lit.evaluation.result import EvaluationResult
from cifar_lit.inference.bundle import TrainedClassifier
from space.app.bundle_metadata import DETAILS_MARKER, NO_EVALUATION, SPLIT_NAMES, BundleMetadata

_TEMPLATE = Path(__file__).with_suffix(".md")


def front_matter(title: str) -> str:
    """Return the YAML front matter of a Space's README.

    Source: https://huggingface.co/docs/hub/spaces-config-reference
    """
    data = SpaceCardData(
        title=title,
        emoji="🔍",
        colorFrom="blue",
        colorTo="indigo",
        sdk="gradio",
        sdk_version=version("gradio"),
        python_version="3.12",
        app_file="app.py",
        short_description="An image classifier that shows why",  # at most 60 characters
        tags=["image-classification", "grad-cam", "interpretability", "pytorch"],
        pinned=False,
        license="mit",
    )
    return f"---\n{data.to_yaml()}\n---\n"


def model_card(
    classifier: TrainedClassifier,
    metadata: BundleMetadata,
    result: EvaluationResult | None,
    recipe: str,
    has_report: bool,
) -> str:
    """Return the model card, as Markdown.

    Args:
        classifier: The classifier.
        metadata: Metadata of the run.
        result: Its evaluation result; None without images.
        recipe: The run's settings, as YAML.
        has_report: Whether a report on the run follows.
    """
    names = classifier.recipe.class_names
    height, width = classifier.recipe.image_size
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(metadata.title),
        size=f"{width}x{height}",
        count=len(names),
        classes=", ".join(map(escape, names)),
        example=names[0].replace('"', ""),
        run=table(["setting", "value"], metadata.run.items()),
        results=_results(result, names),
        unknown=_ood(metadata.unknown),
        heatmaps=_heatmaps(metadata.layer, metadata.method),
        report="\n- **Report**: all results, with the corruptions that reduce the accuracy most." * has_report,
        details=DETAILS_MARKER,
        recipe=recipe.strip(),
    )


def _results(result: EvaluationResult | None, names: Sequence[str]) -> str:
    if result is None:
        return NO_EVALUATION
    before, after = result.calibration_errors()
    summary = (
        f"**{result.accuracy:.2%}** of {result.images:,} {SPLIT_NAMES[result.split]} images are classified correctly"
        f" ({result.errors:,} mistake{'s' * (result.errors != 1)}); mean cross-entropy {result.loss:.4f}."
        f" Expected calibration error: {before:.2%} as trained, {after:.2%} with temperature scaling, which this page"
        " uses. All values were computed in float32."
    )
    sections = [summary, class_scores_table(class_scores(result.counts), names)]
    if pairs := most_confused_pairs(result.counts):
        sections += ["The most confused classes:", confused_pairs_table(pairs, names)]
    return "\n\n".join(sections)


_SCORES = {
    "energy": "the energy score (the log-sum-exp of the logits; [Liu et al. 2020](https://arxiv.org/abs/2010.03759))",
    "max_logit": "the largest logit ([Hendrycks et al. 2022](https://arxiv.org/abs/1911.11132))",
    "msp": "the maximum softmax probability, before calibration ([Hendrycks & Gimpel 2017](https://arxiv.org/abs/1610.02136))",
    "knn": "the similarity to the tenth nearest training image ([Sun et al. 2022](https://arxiv.org/abs/2204.06507))",
}


def _ood(threshold: OODThreshold | None) -> str:
    if threshold is None or not threshold.is_active:
        return "The network always predicts one of its classes, even for an image of something else."
    kinds = ", ".join(f"{share:.0%} of {escape(kind)}" for kind, share in threshold.found.items())
    near = ", ".join(f"{area:.2f} on {escape(kind)}" for kind, area in threshold.near.items())
    return (
        "The network always predicts one of its classes, even for an image of something else. If"
        f" {_SCORES[threshold.score]} is below {threshold.threshold:.4g}, the page says that it may be none of"
        f" them: a hint, not proof. It flags {threshold.false_alarms:.1%} of the"
        f" {SPLIT_NAMES[threshold.evaluated_on]} images, and {kinds}, 256 synthetic images each."
    ) + (f" On images similar to those of the classes, its AUROC is {near}." if near else "")


def _heatmaps(layer: str, method: Method) -> str:
    if not layer:
        return "The network has no feature maps, so the page shows no heatmaps."
    return (
        "A heatmap shows where the chosen layer contains evidence for a class, not how the network would react to a"
        " changed image. It is scaled to the full range of colors, so weak evidence looks as bright as strong evidence."
        " Deep layers are small, so their heatmaps are coarse. By default, the page uses"
        f" {METHOD_NAMES[method]} at {name_layers(method, [f'`{layer}`'])}."
    )
