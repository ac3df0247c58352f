"""The score that detects unknown images best, as ``report`` measured and recorded it in the run's folder."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cifar_lit.errors import InputError
from cifar_lit.evaluation.ood import SCORES, OODScore, best_score
from cifar_lit.inference.bundle import TrainedClassifier
from cifar_lit.safe_files import write_atomically
from cifar_lit.training.checkpointing.checkpoint_digest import digest_of
from cifar_lit.training.checkpointing.checkpoint_paths import CheckpointRun


def read_near_ood(file: Path) -> dict[OODScore, dict[str, float]]:
    """Return the AUROC on images similar to those of the classes, by score and kind.

    Args:
        file: A checkpoint in its run's folder; without the folder, or without a measurement of this checkpoint, the
            result is empty.

    Raises:
        InputError: if the measurement cannot be read.
    """
    run = CheckpointRun(file)
    if not run.in_run_folder or not run.near_ood.is_file():
        return {}
    try:
        found = json.loads(run.near_ood.read_text(encoding="utf-8"))
        if "checkpoint" in found and found["checkpoint"] != digest_of(file):  # missing in early releases
            return {}
        scores = [score for score in get_args(OODScore) if score in SCORES or score in found]
        return {score: {kind: float(area) for kind, area in found[score].items()} for score in scores}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{run.near_ood} cannot be read ({error}); delete it") from error


def record_near_ood(
    file: Path, digest: str, near: Mapping[str, Mapping[OODScore, float]], knn: tuple[Tensor, float] | None
) -> None:
    """Add a measurement to those of earlier reports on the same checkpoint.

    Args:
        file: A checkpoint in its run's folder.
        digest: Digest of the checkpoint that was measured.
        near: The AUROC by kind and score.
        knn: Features float (M, F) of training images, and the threshold of the k-NN score.

    Raises:
        OSError: if the run's folder cannot be written.
    """
    run, recorded = CheckpointRun(file), read_near_ood(file)
    merged = {
        score: recorded.get(score, {}) | {kind: areas[score] for kind, areas in near.items() if score in areas}
        for score in get_args(OODScore)
    }
    text = json.dumps({"checkpoint": digest, **merged}, indent=1, ensure_ascii=False)
    write_atomically(run.near_ood, text.encode())
    if knn is not None:
        features, threshold = knn
        metadata = {"checkpoint": digest, "threshold": repr(threshold)}
        write_atomically(run.training_features, save({"features": features.half()}, metadata))


def with_best_ood_score(classifier: TrainedClassifier, file: Path, checkpoint: Mapping[str, Any]) -> TrainedClassifier:
    """Return the classifier with the score that detects unknown images best, by default the energy.

    Args:
        classifier: The classifier of the checkpoint.
        file: The checkpoint's file.
        checkpoint: Its content; without validation images, it has no thresholds.
    """
    thresholds, near, features = dict(checkpoint.get("ood_thresholds", {})), read_near_ood(file), None
    if not thresholds:
        recipe = replace(classifier.recipe, ood_threshold=checkpoint.get("ood_threshold"))  # of an early release
        return replace(classifier, recipe=recipe)
    if "knn" in near and (knn := _read_knn(file)):
        features, thresholds["knn"] = knn
    score = best_score({score: areas for score, areas in near.items() if score in thresholds})
    recipe = replace(classifier.recipe, ood_score=score, ood_threshold=thresholds[score])
    return replace(classifier, recipe=recipe, training_features=features if score == "knn" else None)


def _read_knn(file: Path) -> tuple[Tensor, float] | None:
    """Return the training images' features and the threshold, or None if they are not those of this checkpoint."""
    stored = CheckpointRun(file).training_features
    if not stored.is_file():
        return None
    try:
        with safe_open(stored, "pt") as opened:
            metadata = opened.metadata()
            is_current = metadata["checkpoint"] == digest_of(file)
            return (opened.get_tensor("features").float(), float(metadata["threshold"])) if is_current else None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(f"{stored} cannot be read ({error}); delete it, and write the report again") from error
