"""Cross-validation: train a network for each fold, to get out-of-sample predictions for all training images."""

import torch
from torch import Tensor

from report.retraining import retrain
from space.export.evaluate import EvaluationSplit, compute_logits
from space.export.run_data import RunData


def out_of_sample_predictions(run: RunData, folds: int) -> tuple[list[tuple[EvaluationSplit, Tensor]], str]:
    """Return images with the logits of networks not trained on them, and a sentence on which images these are.

    Args:
        run: The run.
        folds: Number of networks to train to include the training images; 0 to leave those out.
    """
    held_out = [(split, run.logits[split.name]) for split in run.splits]
    if not folds:
        names = " and ".join(split.name for split in run.splits)
        examined = f"Examined: only the {names} images, since the network was trained on the others"
        return held_out, f"{examined} (--folds 5 trains five networks to examine those too)."
    assert run.data is not None
    # The folds include validation images that were split off the training images
    training_images = run.data.train_set.images
    others = [(split, logits) for split, logits in held_out if split.images is not training_images]
    examined = f"Examined: all training images, each by one of {folds} networks that was not trained on it"
    examined += "".join(f", and the {split.name} images" for split, _ in others)
    return [train_folds(run, folds), *others], f"{examined}."


def train_folds(run: RunData, folds: int) -> tuple[EvaluationSplit, Tensor]:
    """Train the run's network on all folds but one, for each fold, and return the logits of those left out.

    Folds that an earlier report finished on the same images are reused.

    Raises:
        InputError: if a training fails.
    """
    images, rows, logits = None, [], []
    for fold in range(folds):
        settings, note = {"folds": folds, "fold": fold}, f"Training network {fold + 1} of {folds}"
        data, classifier = retrain(run, f"folds/fold_{fold}_of_{folds}", settings, note)
        assert data.val_set is not None
        images = images or data.val_set.images  # the same in all folds
        rows.append(data.val_set.rows)
        logits.append(compute_logits(classifier, EvaluationSplit("train", images, rows[-1])))
    assert images is not None
    return EvaluationSplit("train", images, torch.cat(rows)), torch.cat(logits)
