"""Read checkpoints and TensorBoard events from a run's folder."""

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# The pictures that validation writes by default
PICTURES = [
    "1_results/val/accuracy of each class",
    "1_results/val/calibration as trained",
    "1_results/val/calibration with temperature scaling",
    "1_results/val/confusion matrix counts",
    "1_results/val/confusion matrix rows",
    "2_mistakes/val/heatmaps/fixed",
    "2_mistakes/val/heatmaps/mistakes",
    "2_mistakes/val/misclassified",
]


EVALUATED = PICTURES[1:]  # those that validate and test write too


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    """Return the weights in a run's checkpoint."""
    checkpoint = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    state: dict[str, torch.Tensor] = checkpoint["state_dict"]
    return state


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Return whether two sets of weights are bit-identical."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def events(folder: Path) -> EventAccumulator:
    """Return the events in a folder, with all steps of each tag."""
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    return accumulator.Reload()


def pictures(run: Path, tag: str) -> dict[int, np.ndarray]:
    """Return the pictures of a tag by step."""
    return {
        image.step: np.asarray(Image.open(BytesIO(image.encoded_image_string)).convert("RGB"))
        for image in events(run).Images(tag)
    }


def texts(run: Path, tag: str) -> dict[int, str]:
    """Return the texts of a tag by step."""
    return {
        event.step: event.tensor_proto.string_val[0].decode() for event in events(run).Tensors(f"{tag}/text_summary")
    }
