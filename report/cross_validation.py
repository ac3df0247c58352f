"""Cross-validation: train a network for each fold, to get out-of-sample predictions for all training images."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from cifar_lit.errors import InputError
from cifar_lit.import_allowlist import OPTION, own_modules
from cifar_lit.training.checkpointing.checkpoint_files import read_classifier
from report.label_issues import OutOfSamplePredictions
from space.export.evaluate import EvaluationSplit, compute_logits
from space.export.run_data import RunData
from space.export.run_datasets import data_of_run

_MAIN = Path(__file__).parents[1] / "main.py"
# Callbacks that only observe training, and the one that would stop it based on the held-out images
_OMITTED = ("callbacks.", *(f"lightning.pytorch.callbacks.{name}" for name in ("LearningRateMonitor", "EarlyStopping")))


def check_folds(run: RunData) -> None:
    """Raise InputError if no folds can be trained."""
    if not run.checkpoint_run.in_run_folder:
        raise InputError("--folds needs the run's configuration; use a checkpoint in its run's folder")
    if run.data is None:
        raise InputError(f"--folds needs the run's training images: {run.datasets.note}")
    if not isinstance(run.config["trainer"].get("logger"), dict):
        raise InputError("--folds needs a run whose configuration has a single trainer.logger")


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

    Args:
        run: The run.
        folds: Number of folds.

    Raises:
        InputError: if a training fails.
    """
    images, rows, logits = None, [], []
    for fold in range(folds):
        data: dict[str, Any] = dict(run.config["data"])
        data["init_args"] = {**data.get("init_args", {}), "folds": folds, "fold": fold}
        fold_data = data_of_run({"data": data})
        folder = run.checkpoint_run.folder / "folds" / f"fold_{fold}_of_{folds}" / "run"
        done, key = folder / "done", f"{fold_data.train_set.digest} {run.checkpoint_run.config.read_text()}"
        if not done.is_file() or done.read_text() != key:
            shutil.rmtree(folder, ignore_errors=True)
            print(f"Training network {fold + 1} of {folds}", flush=True)
            _train(run, folder, folds, fold)
            done.write_text(key)
        assert fold_data.val_set is not None
        images = images or fold_data.val_set.images  # the same in all folds
        rows.append(fold_data.val_set.rows)
        classifier = read_classifier(folder / "checkpoints" / "last.ckpt")
        classifier.network.to(run.classifier.device)
        logits.append(compute_logits(classifier, EvaluationSplit("train", images, rows[-1])))
    assert images is not None
    return OutOfSamplePredictions(EvaluationSplit("train", images, torch.cat(rows)), torch.cat(logits))


def _train(run: RunData, folder: Path, folds: int, fold: int) -> None:
    callbacks = run.config["trainer"].get("callbacks") or []
    kept = [callback for callback in callbacks if not callback["class_path"].startswith(_OMITTED)]
    options = ["--config", str(run.checkpoint_run.config), "--data.folds", str(folds), "--data.fold", str(fold)]
    options += ["--trainer.logger", "lightning.pytorch.loggers.CSVLogger"]  # no additional curves in TensorBoard
    options += ["--trainer.logger.save_dir", str(folder.parents[1]), "--trainer.logger.name", folder.parent.name]
    options += ["--trainer.logger.version", folder.name, "--trainer.callbacks", json.dumps(kept)]
    options += [word for name in own_modules() for word in (OPTION, name)]
    if subprocess.run([sys.executable, str(_MAIN), "fit", *options], check=False).returncode:
        raise InputError(f"training without fold {fold + 1} failed; see the error above")
