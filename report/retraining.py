"""Train a run's network again on other images, in the run's folder."""

import json
import shutil
import subprocess
import sys
from typing import Any

from cifar_lit.data.datamodule import ImageDataModule
from cifar_lit.errors import InputError
from cifar_lit.import_allowlist import allow_options
from cifar_lit.inference.bundle import TrainedClassifier
from cifar_lit.training.checkpointing.checkpoint_files import plain, read_classifier
from space.export.run_data import RunData
from space.export.run_datasets import data_of_run
from space.export.space_folder import ROOT

# Callbacks that only observe training, and the one that would stop it based on the held-out images
_OMITTED = ("callbacks.", *(f"lightning.pytorch.callbacks.{name}" for name in ("LearningRateMonitor", "EarlyStopping")))


def check_retraining(run: RunData, option: str) -> None:
    """Raise InputError if the run's network cannot be trained again, as an option requires."""
    if not run.checkpoint_run.in_run_folder:
        raise InputError(f"{option} needs the run's configuration; use a checkpoint in its run's folder")
    if run.data is None:
        raise InputError(f"{option} needs the run's training images: {run.note}")


def retrain(run: RunData, name: str, settings: dict[str, Any], note: str) -> tuple[ImageDataModule, TrainedClassifier]:
    """Train a run's network with other settings of the data, unless an earlier report did so on the same images.

    Args:
        run: The run.
        name: Folder of the training, relative to the run's.
        settings: Settings of the data by name, such as ``fold``.
        note: Printed before the training.

    Returns:
        The data, and the network after the last epoch, on the run's device.

    Raises:
        InputError: if the training fails.
    """
    data = dict(run.config["data"])
    data["init_args"] = {**data.get("init_args", {}), **settings}
    images = data_of_run({"data": data})
    folder = run.checkpoint_run.folder / name / "run"
    done, key = folder / "done", f"{images.train_set.digest} {run.checkpoint_run.config.read_text()}"
    if not done.is_file() or done.read_text() != key:
        shutil.rmtree(folder, ignore_errors=True)
        print(note, flush=True)
        trainer = run.config["trainer"]
        callbacks = trainer.get("callbacks") or []
        kept = [callback for callback in callbacks if not callback["class_path"].startswith(_OMITTED)]
        names = {"save_dir": str(folder.parents[1]), "name": folder.parent.name, "version": folder.name}
        logger = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": names}  # not in TensorBoard
        config = run.config | {"data": data, "trainer": trainer | {"callbacks": kept, "logger": logger}}
        folder.parent.mkdir(parents=True, exist_ok=True)
        file = folder.parent / "config.yaml"
        file.write_text(json.dumps(plain(config)), encoding="utf-8")  # YAML with all texts in quotes
        options = ["--config", str(file), *allow_options()]
        if subprocess.run([sys.executable, str(ROOT / "main.py"), "fit", *options], check=False).returncode:
            raise InputError(f"{note!r} failed; see the error above")
        done.write_text(key)
    classifier = read_classifier(folder / "checkpoints" / "last.ckpt")
    classifier.network.to(run.classifier.device)
    return images, classifier
