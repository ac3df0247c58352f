"""Everything that a Space and a report are made from: checkpoint, run folder, and images to evaluate on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from cifar_lit.data.datamodule import ImageDataModule
from cifar_lit.errors import InputError
from cifar_lit.evaluation.neighbors import evenly_spaced, features
from cifar_lit.evaluation.ood import OODThreshold, fit_ood_threshold
from cifar_lit.evaluation.result import EvaluationResult
from cifar_lit.inference.bundle import TrainedClassifier
from cifar_lit.training.checkpointing.checkpoint_digest import digest_of
from cifar_lit.training.checkpointing.checkpoint_files import (
    find_checkpoint,
    read_checkpoint,
    read_classifier,
)
from cifar_lit.training.checkpointing.checkpoint_paths import CheckpointRun
from cifar_lit.training.checkpointing.near_ood import read_near_ood, with_best_ood_score
from cifar_lit.training.tensorboard_reader import read_history
from space.export.evaluate import EvaluationSplit, compute_logits, evaluate_images
from space.export.run_datasets import find_run_datasets

MAX_TRAINING_FEATURES, _MAX_EVAL_FEATURES = 10_000, 1000


@dataclass(frozen=True)
class RunData:
    """A run, and its network's logits for images that it was not trained on.

    checkpoint_run: The checkpoint file and its run's folder.
    digest: SHA-256 of the checkpoint file, as it was read.
    checkpoint: The content of the checkpoint.
    config: The run's configuration; empty if the checkpoint is not in its run's folder.
    classifier: The trained classifier.
    data: The run's data; None if they are not available or have changed.
    splits: The splits to evaluate on: validation, then test images, each if there are any.
    note: Which images are missing, and why; empty if none are.
    evaluated_on: Name of the dataset of the last evaluated split.
    has_other_images: Whether that is not the run's own.
    """

    checkpoint_run: CheckpointRun
    digest: str
    checkpoint: dict[str, Any]
    config: dict[str, Any]
    classifier: TrainedClassifier
    data: ImageDataModule | None
    splits: list[EvaluationSplit]
    note: str
    evaluated_on: str
    has_other_images: bool

    @classmethod
    def load(cls, ckpt_path: str, images: str | None) -> "RunData":
        """Read a checkpoint and find its run's images.

        Args:
            ckpt_path: A checkpoint file, or ``best`` or ``last`` for the newest such file in runs.
            images: A folder of images to evaluate on; the run's own by default.

        Raises:
            InputError: if there is no such checkpoint, or it is damaged.
        """
        checkpoint_run = find_checkpoint(ckpt_path, "runs/*/*")
        digest = digest_of(checkpoint_run.file)
        classifier = read_classifier(checkpoint_run.file)
        classifier.network.to("cuda" if torch.cuda.is_available() else "cpu")
        config = yaml.safe_load(checkpoint_run.config.read_text()) if checkpoint_run.in_run_folder else {}
        checkpoint = read_checkpoint(checkpoint_run.file)
        found = find_run_datasets(config, checkpoint, classifier.recipe, images)
        evaluated_on = Path(images).resolve().name if images else _data_name(config)
        return cls(checkpoint_run, digest, checkpoint, config, classifier, *found, evaluated_on, bool(images))

    @property
    def training_data(self) -> ImageDataModule:
        """The run's data; raises InputError if they are not available or have changed."""
        if self.data is None:
            raise InputError(self.note or "the run's data is not available")
        return self.data

    @cached_property
    def logits(self) -> dict[str, Tensor]:
        """Logits float32 (n, C) by split, not divided by the temperature."""
        return {split.name: compute_logits(self.classifier, split) for split in self.splits}

    @property
    def eval_split(self) -> EvaluationSplit:
        """The split that results are reported on: the test images if there are any."""
        if not self.splits:
            raise InputError("there are no images to evaluate on; add some with --images DIR")
        return self.splits[-1]

    @property
    def eval_logits(self) -> Tensor:
        """Logits float32 (n, C) of ``eval_split``."""
        return self.logits[self.eval_split.name]

    @cached_property
    def correct(self) -> Tensor:
        """bool (n,), which images of ``eval_split`` are classified correctly."""
        return self.eval_logits.argmax(1) == self.eval_split.labels.cpu()

    @cached_property
    def training_features(self) -> tuple[Tensor, Tensor]:
        """Rows int64 (M,) of up to 10,000 training images, evenly spaced, and their features float32 (M, F).

        Raises InputError if the images are not available, or the network has no penultimate features.
        """
        train = self.training_data.train_set
        rows = evenly_spaced(train.rows.cpu(), MAX_TRAINING_FEATURES)
        split = EvaluationSplit("train", train.images, rows)
        return rows, features(self.classifier.network, split.batches(self.classifier.batch_size))

    @cached_property
    def eval_features(self) -> tuple[Tensor, Tensor]:
        """Positions int64 (K,) in ``eval_split`` of up to 1,000 images, and their features float32 (K, F).

        Raises InputError if the network has no penultimate features.
        """
        positions = evenly_spaced(torch.arange(len(self.eval_split.rows)), _MAX_EVAL_FEATURES)
        split = replace(self.eval_split, rows=self.eval_split.rows[positions])
        return positions, features(self.classifier.network, split.batches(self.classifier.batch_size))

    def evaluate(self, max_mistakes: int) -> EvaluationResult:
        """Return the evaluation result on ``eval_split``, with at most ``max_mistakes`` mistakes."""
        return evaluate_images(self.eval_split, self.eval_logits, self.classifier.recipe.temperature, max_mistakes)

    def fit_ood_threshold(self, unknown: Mapping[str, tuple[Tensor, Tensor]]) -> OODThreshold:
        """Fit the threshold below which an image is called unknown, unless training did, and measure it.

        Args:
            unknown: Logits float32 (N, C) and pixels uint8 (N, 3, H, W) of out-of-distribution images by kind.
        """
        file, size = self.checkpoint_run.file, self.classifier.batch_size
        classifier = with_best_ood_score(self.classifier, file, self.checkpoint)  # as the report may have changed it
        known = {
            split.name: classifier.ood_scores(self.logits[split.name], split.batches(size)) for split in self.splits
        }
        others = {kind: classifier.ood_scores(logits, pixels.split(size)) for kind, (logits, pixels) in unknown.items()}
        recipe = classifier.recipe
        fitted = fit_ood_threshold(known, others, recipe.ood_score, recipe.ood_threshold)
        return replace(fitted, near=read_near_ood(file).get(recipe.ood_score, {}))

    @property
    def title(self) -> str:
        """The run's name, usually that of its configuration; for a checkpoint outside a run's folder, the network's."""
        if self.checkpoint_run.in_run_folder:
            return self.checkpoint_run.folder.parent.name
        return str(self.classifier.recipe.net["class_path"].rpartition(".")[2])

    @property
    def class_names(self) -> list[str]:
        """Names of the classes."""
        return self.classifier.recipe.class_names

    @cached_property
    def history(self) -> dict[str, list[tuple[float, float]]]:
        """The run's curves by name, as pairs of step and value."""
        return read_history(self.checkpoint_run.folder) if self.checkpoint_run.in_run_folder else {}

    @cached_property
    def event_pictures(self) -> dict[str, bytes]:
        """The last picture of each tag in the run's TensorBoard files, as PNG."""
        folder = self.checkpoint_run.folder
        if not self.checkpoint_run.in_run_folder or not any(folder.glob("events.out.tfevents.*")):
            return {}
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder), size_guidance={"images": 1, "scalars": 1}).Reload()
        return {tag: events.Images(tag)[-1].encoded_image_string for tag in events.Tags()["images"]}

    @property
    def checkpoint_name(self) -> str:
        """The checkpoint's path, without folders of this machine: ``runs/<name>/<version>/checkpoints/<file>``."""
        file = self.checkpoint_run.file.absolute()
        return "/".join(file.parts[-5:]) if self.checkpoint_run.in_run_folder else file.name


def _data_name(config: dict[str, Any]) -> str:
    """Return the name of the run's data, the folder's for a user's own images; empty if unknown."""
    settings = config.get("data", {})
    root = settings.get("init_args", {}).get("root")
    kind: str = settings.get("class_path", "").rpartition(".")[2]
    return Path(root).resolve().name if kind in ("ClassFolders", "ImageTable") and root else kind
