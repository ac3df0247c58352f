"""Features of images for TensorBoard's projector."""

import shutil

import torch
import torch.nn.functional as F
from torch import Tensor

from cifar_lit.errors import InputError
from cifar_lit.evaluation.neighbors import evenly_spaced
from report.document import Document, section
from space.export.run_data import RunData

_MAX_TRAINING_IMAGES = 1000  # besides as many evaluated ones, since the browser lays them out
_MAX_SIDE = 64  # pixels of a thumbnail: TensorBoard's sprite has at most 8192 for all of them
_BATCH = 256


@section("Features")
def write_projector(document: Document, run: RunData) -> None:
    """Write the features of training and evaluation images to the run's folder."""
    if not run.checkpoint_run.in_run_folder:
        raise InputError("the checkpoint is not in its run's folder")
    from torch.utils.tensorboard import SummaryWriter

    split, (positions, vectors) = run.eval_split, run.eval_features
    parts = [(split.name, split.images, split.rows[positions], vectors, run.eval_logits[positions])]
    if run.data is not None:
        rows, vectors = run.training_features
        chosen = evenly_spaced(torch.arange(len(rows)), _MAX_TRAINING_IMAGES)
        images, rows = run.data.train_set.images, rows[chosen]
        parts.append(("train", images, rows, vectors[chosen], run.classifier.logits(images.pixels[rows])))
    names = [" ".join(name.split()) for name in run.class_names]  # tabs and newlines would end a cell
    metadata: list[list[str]] = []
    thumbnails: list[Tensor] = []
    for name, images, rows, _, logits in parts:
        for label, predicted in zip(images.labels[rows].tolist(), logits.argmax(1).tolist(), strict=True):
            metadata.append([name, names[label], names[predicted], "correct" if label == predicted else "wrong"])
        thumbnails += map(_thumbnails, images.pixels[rows].split(_BATCH))
    table = torch.cat([vectors for *_, vectors, _ in parts])
    folder = run.checkpoint_run.folder / "projector"
    header = ["images", "class", "predicted", "correct"]
    try:
        shutil.rmtree(folder, ignore_errors=True)
        with SummaryWriter(str(folder)) as writer:
            writer.add_embedding(table, metadata, torch.cat(thumbnails), tag="features", metadata_header=header)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror or error})") from error
    document.text(
        f"The features of {len(metadata):,} training and {run.eval_split.name} images are in TensorBoard's projector"
        " tab: run `uv run tensorboard --logdir` with the run's folder."
    )


def _thumbnails(pixels: Tensor) -> Tensor:
    """Return square images float (N, 3, S, S) in [0, 1], padded with white, for pixels uint8 (N, 3, H, W)."""
    height, width = pixels.shape[2:]
    side = max(height, width)
    padded = F.pad(pixels.float() / 255, (0, side - width, 0, side - height), value=1.0)
    return padded if side <= _MAX_SIDE else F.interpolate(padded, size=_MAX_SIDE, mode="area")
