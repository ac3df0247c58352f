"""Report section: detection of images that belong to none of the classes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from callbacks.rendering.markdown import escape
from cifar_lit.errors import InputError
from cifar_lit.evaluation.neighbors import evenly_spaced, features
from cifar_lit.evaluation.ood import (
    FALSE_ALARM_RATE,
    MIN_NEAR_AUROC,
    SCORE_NAMES,
    SCORES,
    OODScore,
    OODThreshold,
    auroc,
    best_score,
    knn,
    mean_aurocs,
)
from cifar_lit.inference.bundle import TrainedClassifier
from cifar_lit.training.checkpointing.near_ood import read_near_ood, record_near_ood
from report.document import Document, section
from report.retraining import retrain
from space.export.evaluate import EvaluationSplit, compute_logits
from space.export.ood_samples import ood_samples
from space.export.run_data import MAX_TRAINING_FEATURES, RunData

_MAX_KNOWN = 2000  # images of the other classes, if a class is left out
_SYNTHETIC = 256  # images of each kind
Scores = dict[OODScore, Tensor]  # float (N,), by name of the score


def check_unknown_classes(run: RunData, names: Sequence[str]) -> None:
    """Raise InputError if these classes cannot be left out, one at a time."""
    if len(run.class_names) < 3:
        raise InputError("--unknown_class needs at least three classes, to train on two or more of them")
    if run.config["model"].get("init_from"):
        raise InputError("--unknown_class: the run started from weights (model.init_from) that may know the class")
    for name in names:
        if name not in run.class_names:
            raise InputError(f"--unknown_class: no class {name!r}; the classes are {', '.join(run.class_names)}")
        for split in run.splits:
            if len((split.labels == run.class_names.index(name)).unique()) < 2:
                raise InputError(f"--unknown_class: the {split.name} images must be of {name} and of other classes")
        if name.lower() in ("null", "~"):
            raise InputError(f"--unknown_class: YAML reads {name} as null; rename the class")


@section("Out-of-distribution images")
def write_ood(
    document: Document,
    run: RunData,
    others: Mapping[str, Tensor],
    similar: Mapping[str, Tensor],
    unknown_classes: Sequence[str],
    seed: int,
) -> None:
    """Write how well the network detects images that belong to none of its classes.

    Args:
        document: The report.
        run: The run.
        others: Images uint8 (N, 3, H, W) of another dataset, by kind.
        similar: The user's images uint8 (N, 3, H, W), by kind; the results are recorded for the run.
        unknown_classes: Classes to leave out, each in the training of another network.
        seed: Seed of the synthetic images.
    """
    recipe, network, size = run.classifier.recipe, run.classifier.network, run.classifier.batch_size
    synthetic = ood_samples(_SYNTHETIC, recipe.image_size, recipe.class_names, seed)
    images = {**similar, **others, **synthetic}
    logits = {kind: run.classifier.logits(pixels).cpu() for kind, pixels in images.items()}
    known, chosen_on = _scores(run.eval_logits), _scores(run.logits[run.splits[0].name])
    scores = {kind: _scores(values) for kind, values in logits.items()}
    try:
        training_features = run.training_features[1].half().float()  # as they are stored
        known["knn"] = knn(run.eval_features[1], training_features)
        if similar or unknown_classes:
            chosen_on["knn"] = knn(_features(run.classifier, run.splits[0]), training_features)
        for kind, pixels in images.items():
            scores[kind]["knn"] = knn(features(network, pixels.split(size)), training_features)
    except InputError:  # no training images, or no penultimate features
        known.pop("knn", None)
        chosen_on.pop("knn", None)
    left_out = {f"class {name}": _leave_out(run, name) for name in unknown_classes}
    near = {kind: _aurocs(*by_split[0]) for kind, by_split in left_out.items()}
    near |= {kind: _aurocs(chosen_on, scores[kind]) for kind in similar}
    _record(document, run, near, chosen_on)
    threshold = run.fit_ood_threshold({kind: (logits[kind], images[kind]) for kind in synthetic})
    document.text(
        "A score should be higher for images of the classes than for others: the energy ([Liu et al."
        " 2020](https://arxiv.org/abs/2010.03759)), the largest logit ([Hendrycks et al."
        " 2022](https://arxiv.org/abs/1911.11132)), the maximum softmax probability (MSP; [Hendrycks & Gimpel"
        " 2017](https://arxiv.org/abs/1610.02136)), or the similarity to the tenth nearest training image (k-NN;"
        " [Sun et al. 2022](https://arxiv.org/abs/2204.06507)). AUROC: the probability that it is higher. `predict` and"
        f" the web page use the {SCORE_NAMES[threshold.score]} score: below {threshold.threshold:.4g}, an image is"
        f" flagged as unknown. By mistake, so are {threshold.false_alarms:.1%} of the {threshold.evaluated_on} images."
        + (" The threshold was fitted on these images." * (threshold.fitted_on == threshold.evaluated_on))
    )
    measured = {kind: by_split[-1] for kind, by_split in left_out.items()}
    measured |= {kind: (known, scores[kind]) for kind in images}
    aurocs = {kind: _aurocs(*pair) for kind, pair in measured.items()}
    names = list(known)
    rows = []
    for kind, (inside, outside) in measured.items():
        is_left_out = kind in left_out
        cells = [f"{aurocs[kind][name]:.4f}" if name in aurocs[kind] else "" for name in names]
        rows.append([kind, f"{len(outside['energy']):,}", *cells, ""])
        if threshold.score in outside:  # k-NN needs the training images
            cut = inside[threshold.score].quantile(FALSE_ALARM_RATE) if is_left_out else threshold.threshold
            rows[-1][-1] = f"{(outside[threshold.score] < cut).float().mean():.1%}"
    header = ["kind", "images", *(f"AUROC: {SCORE_NAMES[name]}" for name in names), "flagged as unknown"]
    document.table(header, rows)
    if "knn" in names:
        document.text(
            "k-NN is measured without test-time augmentation, and its AUROC on at most"
            f" {len(known['knn']):,} {run.eval_split.name} images."
        )
    if left_out:
        document.text(
            "To measure the detection of a class, another network was trained without it, with the settings of this"
            f" run. The share of its images that are flagged is given for {FALSE_ALARM_RATE:.0%} false alarms."
        )
    _write_near(document, run, threshold)
    if undetected := [kind for kind, areas in aurocs.items() if areas.get(threshold.score, 1) <= 0.5]:
        document.text(f"The score does not detect {', '.join(map(escape, undetected))}: an AUROC of 0.5 is chance.")
    if not threshold.useful:
        document.text(
            "Overall the score is not reliable enough: by default, the web page flags no image as unknown"
            " (`export --flag_unknown true` enables it)."
        )


def _write_near(document: Document, run: RunData, threshold: OODThreshold) -> None:
    """Write what was recorded about images that resemble those of the classes, and which score is used."""
    recorded = read_near_ood(run.checkpoint_run.file)
    kinds = list(recorded.get("energy", {}))
    if not kinds:
        document.text(
            "To test the detection of images that resemble those of the classes, add a folder of them (`--unknown DIR`)"
            + ", or train a network without one of the classes (`--unknown_class NAME`)" * (len(run.class_names) > 2)
            + "."
        )
        return
    means, best = mean_aurocs(recorded), best_score(recorded)
    listed = ", ".join(f"{SCORE_NAMES[score]} {mean:.3f}" for score, mean in means.items())
    document.text(
        f"Recorded for this run in {run.checkpoint_run.near_ood.name}: the AUROC on images that resemble those of the"
        f" classes ({', '.join(map(escape, kinds))}), measured with the {run.splits[0].name} images, on average"
        f" {listed}. For this checkpoint, `predict`, `demo` and `export` use the {SCORE_NAMES[threshold.score]} score."
        + f" The threshold of the {SCORE_NAMES[best]} score is missing; a report with `--unknown` and validation images"
        " writes it." * (best != threshold.score)
    )
    document.finding(
        "Unknown images that resemble those of the classes are separated from them with a mean AUROC of"
        f" **{means[threshold.score]:.2f}** ({SCORE_NAMES[threshold.score]} score, {run.splits[0].name} images)."
    )
    if means[threshold.score] < MIN_NEAR_AUROC:
        document.text(f"An AUROC below {MIN_NEAR_AUROC} is too low to rely on.")


def _leave_out(run: RunData, name: str) -> list[tuple[Scores, Scores]]:
    """Train a network without a class; return the scores of the other images and of that class for each split."""
    data, classifier = retrain(
        run, f"unknown/class_{run.class_names.index(name)}", {"omit_class": name}, f"Training a network without {name}"
    )
    label = run.class_names.index(name)
    columns = [column for column in range(len(run.class_names)) if column != label]
    training_rows = evenly_spaced(data.train_set.rows.cpu(), MAX_TRAINING_FEATURES)
    try:
        training_features = _features(classifier, EvaluationSplit("train", data.train_set.images, training_rows))
    except InputError:  # no penultimate features
        training_features = None
    pairs = []
    for split in run.splits:
        is_unknown = split.labels.cpu() == label
        rows = evenly_spaced(split.rows[~is_unknown], _MAX_KNOWN), split.rows[is_unknown]
        parts = [replace(split, rows=chosen) for chosen in rows]
        known, unknown = (_scores(compute_logits(classifier, part)[:, columns]) for part in parts)
        if training_features is not None:
            for scores, part in zip((known, unknown), parts, strict=True):
                scores["knn"] = knn(_features(classifier, part), training_features)
        pairs.append((known, unknown))
    return pairs


def _features(classifier: TrainedClassifier, split: EvaluationSplit) -> Tensor:
    return features(classifier.network, split.batches(classifier.batch_size))


def _scores(logits: Tensor) -> Scores:
    return {name: score(logits) for name, score in SCORES.items()}


def _aurocs(known: Scores, unknown: Scores) -> dict[OODScore, float]:
    return {name: auroc(scores, unknown[name]) for name, scores in known.items()}


def _record(document: Document, run: RunData, near: Mapping[str, Mapping[OODScore, float]], chosen_on: Scores) -> None:
    """Add AUROCs to those in the run's folder, from which ``predict`` and ``export`` choose the score.

    Not if the images of the classes are not the run's own.
    """
    if not near or run.has_other_images or not run.checkpoint_run.in_run_folder:
        return
    similarities = chosen_on.get("knn")
    try:
        stored = None
        if similarities is not None and run.splits[0].name == "val":
            stored = run.training_features[1], float(similarities.quantile(FALSE_ALARM_RATE))
        record_near_ood(run.checkpoint_run.file, run.digest, near, stored)
    except OSError as error:
        document.text(f"The run's folder cannot be written ({error.strerror}), so no command uses these results.")
