"""Networks that are each trained on all but a part of the training images, by the ordinary command."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from cifar_lit.data.batches import ImageDataset
from cifar_lit.errors import InputError
from cifar_lit.import_allowlist import OPTION, own_modules
from cifar_lit.training.checkpointing.checkpoint_files import read_classifier
from report.label_issues import OutOfSamplePredictions
from space.export.evaluate import Images, logits_of
from space.export.run_data import RunData
from space.export.run_images import data_of_run

_MAIN = Path(__file__).parents[1] / "main.py"
# What watches a training without changing it, and what would stop it by the images that it must not learn from
_LEFT_OUT = (
    "callbacks.",
    "lightning.pytorch.callbacks.LearningRateMonitor",
    "lightning.pytorch.callbacks.EarlyStopping",
)


def check_folds(evidence: RunData) -> None:
    """Raises InputError if no folds can be trained."""
    if not evidence.run.in_run_folder:
        raise InputError("--folds needs the run's configuration, which lies beside its checkpoints")
    if evidence.data is None:
        raise InputError(f"--folds needs the images that the run was trained on: {evidence.at_hand.note}")
    if not isinstance(evidence.config["trainer"].get("logger"), dict):
        raise InputError("--folds trains by the run's configuration, whose trainer.logger must be a single one")


def out_of_sample_predictions(evidence: RunData, folds: int) -> tuple[list[OutOfSamplePredictions], str]:
    """Images with what a network that did not learn from them says of them, and a sentence on which they are.

    Args:
        evidence: The run.
        folds: How many networks to train, so that the training images are among them; 0 for none.
    """
    held_out = [OutOfSamplePredictions(part, evidence.logits[part.split].softmax(1)) for part in evidence.sets]
    if not folds:
        names = " and ".join(one.part.split for one in held_out)
        how = f"Examined: the {names} images alone, since the network learnt from the others (--folds 5 would train"
        return held_out, f"{how} five networks to examine those as well)."
    assert evidence.data is not None
    of_training = evidence.data.train_set.images
    others = [one for one in held_out if one.part.images is not of_training]  # validation images may be of them
    how = f"OutOfSamplePredictions: all training images, each by one of {folds} networks that did not learn from it"
    how += "".join(f", and the {one.part.split} images" for one in others)
    return [train_folds(evidence, folds), *others], f"{how}."


def train_folds(evidence: RunData, folds: int) -> OutOfSamplePredictions:
    """Trains the run's network again on each set of folds but one, and has it judge that one.

    A fold whose training came to its end in an earlier report, on the same images, is not trained again.

    Args:
        evidence: The run.
        folds: How many.

    Raises:
        InputError: if a training fails.
    """
    images, rows, probabilities = None, [], []
    for fold in range(folds):
        data: dict[str, Any] = dict(evidence.config["data"])
        data["init_args"] = {**data.get("init_args", {}), "folds": folds, "fold": fold}
        of_fold = data_of_run({"data": data})
        run = evidence.run.folder / "folds" / f"fold_{fold}_of_{folds}" / "run"
        done, trained_on = run / "done", f"{of_fold.training_digest} {evidence.run.config.read_text()}"
        if not done.is_file() or done.read_text() != trained_on:
            shutil.rmtree(run, ignore_errors=True)
            print(f"Training network {fold + 1} of {folds}", flush=True)
            _train(evidence, run, folds, fold)
            done.write_text(trained_on)
        held_out: ImageDataset | None = of_fold.val_set
        assert held_out is not None
        images = images or held_out.images  # the same in all
        rows.append(held_out.rows)
        trained = read_classifier(run / "checkpoints" / "last.ckpt")
        trained.network.to(evidence.trained.device)
        probabilities.append(logits_of(trained, Images("train", images, held_out.rows)).softmax(1))
    assert images is not None
    return OutOfSamplePredictions(Images("train", images, torch.cat(rows)), torch.cat(probabilities))


def _train(evidence: RunData, run: Path, folds: int, fold: int) -> None:
    callbacks = evidence.config["trainer"].get("callbacks") or []
    kept = [one for one in callbacks if not one["class_path"].startswith(_LEFT_OUT)]
    options = ["--config", str(evidence.run.config), "--data.folds", str(folds), "--data.fold", str(fold)]
    options += ["--trainer.logger", "lightning.pytorch.loggers.CSVLogger"]  # no further curves in TensorBoard
    options += ["--trainer.logger.save_dir", str(run.parents[1]), "--trainer.logger.name", run.parent.name]
    options += ["--trainer.logger.version", run.name, "--trainer.callbacks", json.dumps(kept)]
    options += [part for name in own_modules() for part in (OPTION, name)]
    if subprocess.run([sys.executable, str(_MAIN), "fit", *options], check=False).returncode:
        raise InputError(f"training without fold {fold + 1} failed, as told above")
