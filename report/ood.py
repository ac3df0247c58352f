"""Report section: detection of images that belong to none of the classes."""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from callbacks.rendering.markdown import escape
from cifar_lit.errors import InputError
from cifar_lit.evaluation.neighbors import evenly_spaced, features
from cifar_lit.evaluation.ood import (
    FALSE_ALARM_RATE,
    MIN_NEAR_AUROC,
    SCORE_NAMES,
    SCORES,
    OODThreshold,
    auroc,
    knn,
)
from cifar_lit.inference.bundle import TrainedClassifier
from cifar_lit.safe_files import write_atomically
from cifar_lit.training.checkpointing.checkpoint_files import read_near_ood
from report.document import Document, section
from report.retraining import retrain
from space.export.evaluate import EvaluationSplit, compute_logits
from space.export.ood_samples import ood_samples
from space.export.run_data import MAX_TRAINING_FEATURES, RunData

_MAX_KNOWN = 2000  # images of the other classes, if a class is left out
_SYNTHETIC = 256  # images of each kind


class _Detection(NamedTuple):
    """How well images of one kind are detected.

    images: Their number.
    aurocs: By score.
    flagged: Share of the images that are flagged, by score, with as many false alarms as the page has.
    """

    images: int
    aurocs: dict[str, float]
    flagged: dict[str, float]


@section("Out-of-distribution images")
def write_ood(
    document: Document, run: RunData, others: Mapping[str, Tensor], unknown_classes: Sequence[str], seed: int
) -> None:
    """Write how well the network detects images that belong to none of its classes.

    Args:
        document: The report.
        run: The run.
        others: Images uint8 (N, 3, H, W) similar to those of the classes, by kind.
        unknown_classes: Classes to leave out, each in the training of another network.
        seed: Seed of the synthetic images.
    """
    recipe, network, size = run.classifier.recipe, run.classifier.network, run.classifier.batch_size
    synthetic = ood_samples(_SYNTHETIC, recipe.image_size, recipe.class_names, seed)
    logits = {kind: run.classifier.logits(pixels).cpu() for kind, pixels in {**others, **synthetic}.items()}
    known = _scores(run.eval_logits)
    scores = {kind: _scores(values) for kind, values in logits.items()}
    try:
        training_features = run.training_features[1]
        known["knn"] = knn(run.eval_features[1], training_features)
        for kind, pixels in {**others, **synthetic}.items():
            scores[kind]["knn"] = knn(features(network, pixels.split(size)), training_features)
    except InputError:  # no training images, or no penultimate features
        known.pop("knn", None)
    near = {f"class {name}": _leave_out(run, name) for name in unknown_classes}
    near |= {kind: _detect(known, scores[kind]) for kind in others}
    _record(run, near)
    threshold = run.fit_ood_threshold({kind: logits[kind] for kind in synthetic})
    document.text(
        "A score should be higher for images of the classes than for others: the energy ([Liu et al."
        " 2020](https://arxiv.org/abs/2010.03759)), the largest logit ([Hendrycks et al."
        " 2022](https://arxiv.org/abs/1911.11132)), the maximum softmax probability (MSP; [Hendrycks & Gimpel"
        " 2017](https://arxiv.org/abs/1610.02136)), or the similarity to the tenth nearest training image (k-NN;"
        " [Sun et al. 2022](https://arxiv.org/abs/2204.06507)). AUROC: the probability that it is. `predict` and the"
        f" web page use the {SCORE_NAMES[threshold.score]} score: below {threshold.threshold:.4g}, an image is flagged"
        f" as unknown. This includes {threshold.false_alarms:.1%} of the {threshold.evaluated_on} images by mistake"
        + (", on which it was fitted." if threshold.fitted_on == threshold.evaluated_on else ".")
    )
    far = {kind: _detect(known, scores[kind], threshold) for kind in synthetic}
    names = [*SCORES, "knn"] if "knn" in known else list(SCORES)
    rows = [
        [kind, f"{one.images:,}", *(_cell(one.aurocs, name) for name in names), f"{one.flagged[threshold.score]:.1%}"]
        for kind, one in {**near, **far}.items()
    ]
    header = ["kind", "images", *(f"AUROC: {SCORE_NAMES[name]}" for name in names), "flagged as unknown"]
    document.table(header, rows)
    if near:
        _write_near(document, run, near, threshold)
    else:
        document.text(
            "None of these resembles the images of the classes. To test the detection of images that do, add a"
            " folder (`--unknown DIR`), or train a network without one of the classes (`--unknown_class NAME`)."
        )
    if undetected := [kind for kind, one in {**near, **far}.items() if one.aurocs[threshold.score] <= 0.5]:
        document.text(f"The score does not detect {', '.join(map(escape, undetected))}: an AUROC of 0.5 is chance.")
    if not threshold.useful:
        document.text(
            "Overall the score is not reliable enough: by default, the web page flags no image as unknown"
            " (`export --flag_unknown true` enables it)."
        )


def _write_near(document: Document, run: RunData, near: Mapping[str, _Detection], threshold: OODThreshold) -> None:
    if any(kind.startswith("class ") for kind in near):
        document.text(
            "To measure the detection of a class, another network was trained without it, with the settings of this"
            f" run; flagged at {FALSE_ALARM_RATE:.0%} false alarms."
        )
    means = {
        name: sum(one.aurocs[name] for one in near.values()) / len(near)
        for name in SCORE_NAMES
        if all(name in one.aurocs for one in near.values())
    }
    listed = ", ".join(f"{SCORE_NAMES[name]} {mean:.3f}" for name, mean in means.items())
    text = f"Mean AUROC on images similar to those of the classes: {listed}."
    if run.checkpoint_run.in_run_folder:
        text += (
            f" The best without training images, {SCORE_NAMES[threshold.score]}, is used by `predict`, `demo` and"
            f" `export` of this run from now on ({run.checkpoint_run.near_ood.name} in its folder)."
        )
    document.text(text)
    share = sum(one.flagged[threshold.score] for one in near.values()) / len(near)
    document.finding(
        f"Of unknown images similar to the classes, **{share:.0%}** are flagged as unknown, as are"
        f" {threshold.false_alarms:.1%} of the {threshold.evaluated_on} images, by mistake."
    )
    if means[threshold.score] < MIN_NEAR_AUROC:
        document.text(f"An AUROC below {MIN_NEAR_AUROC} is too low to rely on.")


def _leave_out(run: RunData, name: str) -> _Detection:
    """Train a network without a class, and return how well it detects the images of that class."""
    data, classifier = retrain(
        run, f"unknown/class_{run.class_names.index(name)}", {"omit_class": name}, f"Training a network without {name}"
    )
    label, split = run.class_names.index(name), run.eval_split
    is_unknown = split.labels.cpu() == label
    rows = {"known": evenly_spaced(split.rows[~is_unknown], _MAX_KNOWN), "unknown": split.rows[is_unknown]}
    if not len(rows["unknown"]):
        raise InputError(f"--unknown_class {name}: there are no {split.name} images of this class")
    parts = {part: EvaluationSplit(split.name, split.images, chosen) for part, chosen in rows.items()}
    columns = [column for column in range(len(run.class_names)) if column != label]
    known, unknown = (_scores(compute_logits(classifier, part)[:, columns]) for part in parts.values())
    try:
        training_rows = evenly_spaced(data.train_set.rows.cpu(), MAX_TRAINING_FEATURES)
        training_features = _features(classifier, EvaluationSplit("train", data.train_set.images, training_rows))
        for scores, part in zip((known, unknown), parts.values(), strict=True):
            scores["knn"] = knn(_features(classifier, part), training_features)
    except InputError:  # no penultimate features
        known.pop("knn", None)
    return _detect(known, unknown)


def _features(classifier: TrainedClassifier, split: EvaluationSplit) -> Tensor:
    return features(classifier.network, split.batches(classifier.batch_size))


def _scores(logits: Tensor) -> dict[str, Tensor]:
    return {name: score(logits) for name, score in SCORES.items()}


def _detect(
    known: Mapping[str, Tensor], unknown: Mapping[str, Tensor], threshold: OODThreshold | None = None
) -> _Detection:
    """Return how well unknown images are detected, by their scores and those of images of the classes.

    Args:
        known, unknown: float (N,) and (M,) by score.
        threshold: The page's threshold; otherwise, ``FALSE_ALARM_RATE`` of the known images are flagged.
    """
    cuts = {name: float(known[name].quantile(FALSE_ALARM_RATE)) for name in SCORES}
    if threshold is not None:
        cuts[threshold.score] = threshold.threshold
    return _Detection(
        len(unknown["energy"]),
        {name: auroc(scores, unknown[name]) for name, scores in known.items()},
        {name: float((unknown[name] < cut).float().mean()) for name, cut in cuts.items()},
    )


def _record(run: RunData, near: Mapping[str, _Detection]) -> None:
    """Add the AUROCs to those in the run's folder, from which ``predict`` and ``export`` choose the score."""
    if near and run.checkpoint_run.in_run_folder:
        recorded = read_near_ood(run.checkpoint_run.file)
        merged = {
            score: recorded.get(score, {}) | {kind: one.aurocs[score] for kind, one in near.items()} for score in SCORES
        }
        write_atomically(run.checkpoint_run.near_ood, json.dumps(merged, indent=1, ensure_ascii=False).encode())


def _cell(aurocs: Mapping[str, float], name: str) -> str:
    return f"{aurocs[name]:.4f}" if name in aurocs else ""
