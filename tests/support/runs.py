"""Run folders, read back."""

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# The pictures that a validation writes by default
PICTURES = [
    "misclassified",
    "gradcam/fixed",
    "gradcam/mistakes",
    "confusion matrix/counts",
    "confusion matrix/rows",
    "calibration",
]


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    """The weights in a run's checkpoint."""
    checkpoint = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    state: dict[str, torch.Tensor] = checkpoint["state_dict"]
    return state


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of weights are equal to the bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def events(folder: Path) -> EventAccumulator:
    """The events in a folder, all steps of each tag."""
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    return accumulator.Reload()


def pictures(run: Path, tag: str) -> dict[int, np.ndarray]:
    """The pictures of a tag by their step."""
    return {
        image.step: np.asarray(Image.open(BytesIO(image.encoded_image_string)).convert("RGB"))
        for image in events(run).Images(tag)
    }


def texts(run: Path, tag: str) -> dict[int, str]:
    """The texts of a tag by their step."""
    return {
        event.step: event.tensor_proto.string_val[0].decode() for event in events(run).Tensors(f"{tag}/text_summary")
    }
