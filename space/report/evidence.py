"""What a report is written from: a checkpoint, its run's folder, and the images that the run was judged by."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from cifar_lit.bundle import TrainedClassifier
from cifar_lit.checkpoints import CheckpointRun, find_checkpoint, read_checkpoint, read_classifier
from cifar_lit.data.datamodule import ImageDataModule
from cifar_lit.errors import InputError
from cifar_lit.history import read_history
from space.at_hand import images_to_judge
from space.facts import data_name
from space.judging import Images, chosen_temperature, logits_of


@dataclass(frozen=True)
class Evidence:
    """A run, and what its network says of images that it was not trained on.

    run: The checkpoint and its folder.
    checkpoint: All that it holds.
    config: The run's configuration; empty where the checkpoint lies by itself.
    trained: The classifier, at the temperature that the first of ``sets`` chose.
    data: The run's data; None where they are not at hand.
    sets: Images by split, validation before test; may be empty.
    logits: float32 (n, C) by split.
    judged_on: The name of the data that the last of ``sets`` is of.
    """

    run: CheckpointRun
    checkpoint: dict[str, Any]
    config: dict[str, Any]
    trained: TrainedClassifier
    data: ImageDataModule | None
    sets: list[Images]
    logits: dict[str, Tensor]
    judged_on: str

    @classmethod
    def gather(cls, ckpt_path: str, images: str | None) -> "Evidence":
        """Reads the checkpoint, and has its classifier judge.

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
        data, sets = images_to_judge(config, checkpoint, trained, images)
        logits = {part.split: logits_of(trained, part) for part in sets}
        if sets:
            temperature = chosen_temperature(logits[sets[0].split], sets[0].labels)
            trained = replace(trained, recipe=replace(trained.recipe, temperature=temperature))
        judged_on = Path(images).resolve().name if images else data_name(config)
        return cls(run, checkpoint, config, trained, data, sets, logits, judged_on)

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
