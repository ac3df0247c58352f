"""Networks that are each trained on all but a part of the training images, by the ordinary command."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from cifar_lit.checkpoints import read_classifier
from cifar_lit.errors import InputError
from cifar_lit.imports import OPTION, own_modules
from space.at_hand import data_of_run
from space.judging import Images, logits_of
from space.report.evidence import Evidence
from space.report.label_errors import Examined

_MAIN = Path(__file__).parents[2] / "main.py"


_WATCHING = ("callbacks.", "lightning.pytorch.callbacks.LearningRateMonitor")  # and changing nothing


def check_folds(evidence: Evidence) -> None:
    """Raises InputError if no folds can be trained."""
    if not evidence.run.in_run_folder or evidence.data is None:
        raise InputError("--folds needs the run's configuration, which lies beside its checkpoints, and its data")


def train_folds(evidence: Evidence, folds: int) -> Examined:
    """Trains the run's network again on each set of folds but one, and has it judge that one.

    A fold whose training came to its end in an earlier report, on the same images, is not trained again.

    Args:
        evidence: The run.
        folds: How many.

    Raises:
        InputError: if the run's configuration is not at hand, or a training fails.
    """
    check_folds(evidence)
    callbacks = evidence.config["trainer"].get("callbacks") or []
    callbacks = [one for one in callbacks if not one["class_path"].startswith(_WATCHING)]
    images, rows, shares = None, [], []
    for fold in range(folds):
        data: dict[str, Any] = dict(evidence.config["data"])
        data["init_args"] = {**data.get("init_args", {}), "folds": folds, "fold": fold}
        of_fold = data_of_run({"data": data})
        held_out = of_fold.val_set
        assert held_out is not None
        trained_on = f"{of_fold.labels_digest} {evidence.run.config.read_text()}"
        run = evidence.run.folder / "folds" / f"fold_{fold}_of_{folds}" / "run"
        done = run / "done"
        if not done.is_file() or done.read_text() != trained_on:
            shutil.rmtree(run, ignore_errors=True)
            print(f"Training network {fold + 1} of {folds}", flush=True)
            options = ["--config", str(evidence.run.config), "--data.folds", str(folds), "--data.fold", str(fold)]
            options += ["--trainer.logger.save_dir", str(run.parents[1]), "--trainer.logger.name", run.parent.name]
            options += ["--trainer.logger.version", "run", "--trainer.callbacks", json.dumps(callbacks)]
            options += [part for name in own_modules() for part in (OPTION, name)]
            if subprocess.run([sys.executable, str(_MAIN), "fit", *options], check=False).returncode:
                raise InputError(f"training without fold {fold + 1} failed, as told above")
            done.write_text(trained_on)
        images = images or held_out.images  # the same in all
        rows.append(held_out.rows)
        trained = read_classifier(run / "checkpoints" / "last.ckpt")
        trained.network.to(evidence.trained.device)
        shares.append(logits_of(trained, Images("val", images, held_out.rows)).softmax(1))
    assert images is not None
    return Examined("train", images, torch.cat(rows), torch.cat(shares))
