"""Whether two runs are equal to the bit: what they ended with, and what they wrote on the way."""

import logging
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

logging.getLogger("tensorboard").setLevel(
    logging.ERROR
)  # silences a message per purged event that a resumption took back
STATES = ("state_dict", "optimizer_states", "lr_schedulers", "current_model_state", "counts", "loops")


def differences(first: Path, second: Path) -> list[str]:
    """In what the runs in two folders differ: names of parts of their last checkpoints, or of what they wrote."""
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (first, second)]
    found = [name for name in STATES if not same(states[0].get(name), states[1].get(name))]
    events = [written(run) for run in (first, second)]
    for folder in sorted(events[0].keys() | events[1].keys()):
        ours, theirs = events[0].get(folder, {}), events[1].get(folder, {})
        found += [f"{folder}: {tag}" for tag in sorted(ours.keys() | theirs.keys()) if ours.get(tag) != theirs.get(tag)]
    if (first / "misclassified.csv").read_text() != (second / "misclassified.csv").read_text():
        found.append("misclassified.csv")
    return found


def same(first: Any, second: Any) -> bool:
    """Whether two values, with all that is in them, are equal, tensors to the bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[name], second[name]) for name in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


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
    for tag in events.Tags()["tensors"]:  # texts, of which this reader, unlike TensorBoard's own server, purges nothing
        newest = {event.step: event.tensor_proto.SerializeToString() for event in events.Tensors(tag)}
        found[tag] = sorted(newest.items())
    return found
