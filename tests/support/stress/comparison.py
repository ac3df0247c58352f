"""Bitwise comparison of two runs: their last checkpoints and everything they logged."""

import logging
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# TensorBoard logs a message for each event that it purges because a resumed run repeated the step
logging.getLogger("tensorboard").setLevel(logging.ERROR)
STATES = ("state_dict", "optimizer_states", "lr_schedulers", "current_model_state", "counts", "loops")


def differences(first: Path, second: Path) -> list[str]:
    """Return what differs between two run folders: parts of the last checkpoint, tags of events, and files."""
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (first, second)]
    different = [name for name in STATES if not same(states[0].get(name), states[1].get(name))]
    events = [logged_events(run) for run in (first, second)]
    for folder in sorted(events[0].keys() | events[1].keys()):
        one, other = events[0].get(folder, {}), events[1].get(folder, {})
        different += [f"{folder}: {tag}" for tag in sorted(one.keys() | other.keys()) if one.get(tag) != other.get(tag)]
    if (first / "misclassified.csv").read_text() != (second / "misclassified.csv").read_text():
        different.append("misclassified.csv")
    return different


def same(first: Any, second: Any) -> bool:
    """Return whether two nested values are equal, tensors bit for bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[name], second[name]) for name in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def logged_events(run: Path) -> dict[str, dict[str, list[tuple[int, Any]]]]:
    """Return the step and value of every event, by folder and tag: numbers, and the bytes of pictures and texts."""
    folders = {file.parent for file in run.rglob("events*")}
    return {str(folder.relative_to(run)): _folder_events(folder) for folder in folders}


def _folder_events(folder: Path) -> dict[str, list[tuple[int, Any]]]:
    everything = {"scalars": 0, "images": 0, "tensors": 0}
    reader = EventAccumulator(str(folder), size_guidance=everything).Reload()
    events: dict[str, list[tuple[int, Any]]] = {}
    for tag in reader.Tags()["scalars"]:
        events[tag] = [(event.step, event.value) for event in reader.Scalars(tag)]
    for tag in reader.Tags()["images"]:
        events[tag] = [(event.step, event.encoded_image_string) for event in reader.Images(tag)]
    for tag in reader.Tags()["tensors"]:  # texts, which this reader does not purge, unlike TensorBoard's server
        newest = {event.step: event.tensor_proto.SerializeToString() for event in reader.Tensors(tag)}
        events[tag] = sorted(newest.items())
    return events
