"""What a run wrote to TensorBoard, as its page would show it."""

from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def written(run: Path) -> dict[str, dict[str, list[tuple[int, Any]]]]:
    """By folder and tag, the step and the value of every event: numbers, and the bytes of pictures and texts."""
    return {
        str(folder.relative_to(run)): _of_folder(folder) for folder in {file.parent for file in run.rglob("events*")}
    }


def _of_folder(folder: Path) -> dict[str, list[tuple[int, Any]]]:
    everything = {"scalars": 0, "images": 0, "tensors": 0}
    events = EventAccumulator(str(folder), size_guidance=everything).Reload()
    found: dict[str, list[tuple[int, Any]]] = {}
    for tag in events.Tags()["scalars"]:
        found[tag] = [(event.step, event.value) for event in events.Scalars(tag)]
    for tag in events.Tags()["images"]:
        found[tag] = [(event.step, event.encoded_image_string) for event in events.Images(tag)]
    for tag in events.Tags()["tensors"]:
        found[tag] = [(event.step, event.tensor_proto.SerializeToString()) for event in events.Tensors(tag)]
    return found
