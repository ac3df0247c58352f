"""Cross-validation: train a network for each fold, to get out-of-sample predictions for all training images."""

import torch

from report.label_issues import OutOfSamplePredictions
from report.retraining import retrain
from space.export.evaluate import EvaluationSplit, compute_logits
from space.export.run_data import RunData


def out_of_sample_predictions(run: RunData, folds: int) -> tuple[list[OutOfSamplePredictions], str]:
    """Return out-of-sample predictions, and a sentence on which images they are for.

    Args:
        run: The run.
        folds: Number of networks to train to include the training images; 0 to leave those out.
    """
    held_out = [OutOfSamplePredictions(split, run.logits[split.name]) for split in run.splits]
    if not folds:
        names = " and ".join(split.name for split in run.splits)
        examined = f"Examined: only the {names} images, since the network was trained on the others"
        return held_out, f"{examined} (--folds 5 trains five networks to examine those too)."
    assert run.data is not None
    # The folds include validation images that were split off the training images
    training_images = run.data.train_set.images
    others = [predictions for predictions in held_out if predictions.split.images is not training_images]
    examined = f"Examined: all training images, each by one of {folds} networks that was not trained on it"
    examined += "".join(f", and the {predictions.split.name} images" for predictions in others)
    return [train_folds(run, folds), *others], f"{examined}."


def train_folds(run: RunData, folds: int) -> OutOfSamplePredictions:
    """Train the run's network on all folds but one, for each fold, and predict the one left out.

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
    return OutOfSamplePredictions(EvaluationSplit("train", images, torch.cat(rows)), torch.cat(logits))
