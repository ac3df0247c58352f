"""Cross-validation: train a network for each fold, to get out-of-sample predictions for all training images."""

import torch
from torch import Tensor

from report.retraining import retrain
from space.export.evaluate import EvaluationSplit, compute_logits
from space.export.run_data import RunData


def out_of_sample_predictions(
    run: RunData, folds: int, repeats: int
) -> tuple[list[tuple[EvaluationSplit, Tensor]], str]:
    """Return images with the logits of networks not trained on them, and a sentence on which images these are.

    Args:
        run: The run.
        folds: Number of networks to train to include the training images; 0 to leave those out.
        repeats: Number of cross-validations to average.
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
    networks = (
        f"{repeats} of {folds * repeats} networks that were" if repeats > 1 else f"one of {folds} networks that was"
    )
    examined = f"Examined: all training images, each by {networks} not trained on it"
    examined += "".join(f", and the {split.name} images" for split, _ in others)
    return [train_folds(run, folds, repeats), *others], f"{examined}."


def train_folds(run: RunData, folds: int, repeats: int) -> tuple[EvaluationSplit, Tensor]:
    """Train the run's network on all folds but one, for each fold, and return the logits of those left out.

    Repeated cross-validations divide the images differently; their logits are averaged. Networks that an earlier report
    trained on the same images are reused.

    Raises:
        InputError: if a training fails.
    """
    split_seed = run.config["data"].get("init_args", {}).get("split_seed", 0)
    repeated = []
    for repeat in range(repeats):
        rows, logits = [], []
        for fold in range(folds):
            settings = {"folds": folds, "fold": fold, "split_seed": split_seed + repeat}
            name = f"folds/fold_{fold}_of_{folds}" + f"_repeat_{repeat}" * bool(repeat)
            note = f"Training network {repeat * folds + fold + 1} of {repeats * folds}"
            data, classifier = retrain(run, name, settings, note)
            assert data.val_set is not None
            images = data.val_set.images  # the same in all folds
            rows.append(data.val_set.rows)
            logits.append(compute_logits(classifier, EvaluationSplit("train", images, rows[-1])))
        order = torch.cat(rows).argsort()
        repeated.append(torch.cat(logits)[order])
    return EvaluationSplit("train", images, torch.cat(rows)[order]), torch.stack(repeated).mean(0)
