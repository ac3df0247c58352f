"""What a page and a report are made of: a checkpoint, its run's folder, and the images that the run is judged by."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from cifar_lit.data.datamodule import ImageDataModule
from cifar_lit.errors import InputError
from cifar_lit.evaluation.ood import OODThreshold, fit_ood_threshold
from cifar_lit.evaluation.result import EvaluationResult
from cifar_lit.inference.bundle import TrainedClassifier
from cifar_lit.training.checkpointing.checkpoint_files import (
    CheckpointRun,
    find_checkpoint,
    read_checkpoint,
    read_classifier,
)
from cifar_lit.training.tensorboard_reader import read_history
from space.export.evaluate import Images, judged_by, logits_of
from space.export.run_images import RunImages, find_run_images


@dataclass(frozen=True)
class RunData:
    """A run, and what its network says of images that it was not trained on.

    run: The checkpoint and its folder.
    checkpoint: All that it holds.
    config: The run's configuration; empty where the checkpoint lies by itself.
    trained: The classifier.
    at_hand: The run's data and the images to judge by.
    judged_on: The name of the data that the last of these images are of.
    """

    run: CheckpointRun
    checkpoint: dict[str, Any]
    config: dict[str, Any]
    trained: TrainedClassifier
    at_hand: RunImages
    judged_on: str

    @classmethod
    def gather(cls, ckpt_path: str, images: str | None) -> "RunData":
        """Reads the checkpoint, and finds the images.

        Args:
            ckpt_path: The checkpoint: a file, or ``best`` or ``last`` for the newest such file in runs.
            images: A folder of images to judge by; by default the run's own.

        Raises:
            InputError: if there is no such checkpoint, or it is damaged.
        """
        run = find_checkpoint(ckpt_path, "runs/*/*")
        trained = read_classifier(run.file)
        trained.network.to("cuda" if torch.cuda.is_available() else "cpu")
        config = yaml.safe_load(run.config.read_text()) if run.in_run_folder else {}
        checkpoint = read_checkpoint(run.file)
        at_hand = find_run_images(config, checkpoint, trained.recipe, images)
        judged_on = Path(images).resolve().name if images else _data_name(config)
        return cls(run, checkpoint, config, trained, at_hand, judged_on)

    @property
    def data(self) -> ImageDataModule | None:
        """The run's data; None where they are not at hand, or are others now."""
        return self.at_hand.data

    @property
    def sets(self) -> list[Images]:
        """Images by split, validation before test; may be empty."""
        return self.at_hand.sets

    @cached_property
    def logits(self) -> dict[str, Tensor]:
        """Logits for ``sets``, float32 (n, C) by split, not divided by the temperature."""
        return {part.split: logits_of(self.trained, part) for part in self.sets}

    def judged(self, most: int) -> EvaluationResult | None:
        """The evaluation by the last of ``sets``, with at most so many mistakes; None where there is none."""
        if not self.sets:
            return None
        return judged_by(self.last, self.logits[self.last.split], self.trained.recipe.temperature, most)

    def unknown(self, pixels: Mapping[str, Tensor]) -> tuple[OODThreshold, dict[str, Tensor]]:
        """When an image is called unknown, and what the network says of images that are to be called so.

        Args:
            pixels: uint8 (N, 3, H, W) by kind, none of which is any of the classes.

        Returns:
            The threshold, and logits float32 (N, C) by kind.
        """
        logits = {kind: self.trained.logits(of_kind).cpu() for kind, of_kind in pixels.items()}
        return fit_ood_threshold(self.logits, logits), logits

    @property
    def data_name(self) -> str:
        """The name of the run's data: that of the folder, for one's own images; empty if it is not known."""
        return _data_name(self.config)

    @property
    def title(self) -> str:
        """The names of network and data."""
        network = self.trained.recipe.net["class_path"].rpartition(".")[2]
        return f"{network} on {self.data_name}" if self.data_name else network

    @property
    def class_names(self) -> list[str]:
        """The classes."""
        return self.trained.recipe.class_names

    @property
    def last(self) -> Images:
        """What the network is judged by: the test images, where there are some."""
        if not self.sets:
            raise InputError("there are no images to judge by")
        return self.sets[-1]

    @cached_property
    def right(self) -> Tensor:
        """bool (n,), which of these were classified rightly."""
        return self.logits[self.last.split].argmax(1) == self.last.labels.cpu()

    @cached_property
    def history(self) -> dict[str, list[tuple[float, float]]]:
        """The run's curves."""
        return read_history(self.run.folder) if self.run.in_run_folder else {}

    @cached_property
    def event_pictures(self) -> dict[str, bytes]:
        """The last picture of each name in the run's TensorBoard files, as PNG."""
        if not self.run.in_run_folder or not any(self.run.folder.glob("events.out.tfevents.*")):
            return {}
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(self.run.folder), size_guidance={"images": 1, "scalars": 1}).Reload()
        return {tag: events.Images(tag)[-1].encoded_image_string for tag in events.Tags()["images"]}

    @property
    def place(self) -> str:
        """The checkpoint's, as the run's folders call it: nothing of where they lie on this machine."""
        return "/".join(self.run.file.parts[-4:]) if self.run.in_run_folder else self.run.file.name


def _data_name(config: dict[str, Any]) -> str:
    settings = config.get("data", {})
    root = settings.get("init_args", {}).get("root")
    kind: str = settings.get("class_path", "").rpartition(".")[2]
    return Path(root).resolve().name if kind == "ClassFolders" and root else kind
