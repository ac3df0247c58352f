"""The features of images in TensorBoard's projector, where they can be walked through."""

import shutil

import torch
import torch.nn.functional as F
from torch import Tensor

from cifar_lit.evaluation.neighbors import evenly, features
from report.document import Document
from space.export.run_data import RunData

_MOST = 1000  # images of the training, and as many others, since the browser lays them out
_SIDE = 64  # pixels of an image's picture, at most: TensorBoard takes a sheet of 8192 for all of them
_BATCH = 256


def write_projector(document: Document, evidence: RunData) -> None:
    """Writes the features of training images, and of those that the network is judged by, into the run's folder."""
    if not evidence.sets or not evidence.run.in_run_folder:
        document.missing("TensorBoard's projector", "the run's folder or its images are not at hand")
        return
    from torch.utils.tensorboard import SummaryWriter

    last, names = evidence.last, evidence.class_names
    parts = [(last.split, last.images, evenly(last.rows, _MOST))]
    if evidence.data is not None:
        train = evidence.data.train_set
        parts.append(("train", train.images, evenly(train.rows, _MOST)))
    found: list[Tensor] = []
    described: list[list[str]] = []
    pictures: list[Tensor] = []
    for split, images, rows in parts:
        chosen, labels = images.pixels[rows], images.labels[rows]
        try:
            found.append(features(evidence.trained.network, chosen.split(_BATCH)))
        except ValueError as error:
            document.missing("TensorBoard's projector", str(error))
            return
        said = evidence.trained.logits(chosen).argmax(1).cpu()
        for label, one in zip(labels.tolist(), said.tolist(), strict=True):
            described.append([split, _word(names[label]), _word(names[one]), "right" if label == one else "wrong"])
        pictures += map(_square, chosen.split(_BATCH))
    folder = evidence.run.folder / "projector"
    try:
        shutil.rmtree(folder, ignore_errors=True)
        with SummaryWriter(str(folder)) as writer:
            header = ["images", "class", "said", "right"]
            writer.add_embedding(
                torch.cat(found), described, torch.cat(pictures), tag="features", metadata_header=header
            )
    except OSError as error:
        document.missing("TensorBoard's projector", f"{folder} cannot be written ({error.strerror or error})")
        return
    document.text(
        f"The features of {len(described):,} images, of training and {last.split}, are in TensorBoard's projector tab:"
        " `uv run tensorboard --logdir` with the run's folder."
    )


def _word(name: str) -> str:
    """A name without what would end a cell of the projector's table."""
    return " ".join(name.split())


def _square(pixels: Tensor) -> Tensor:
    """Pictures float (N, 3, S, S) in [0, 1] of pixels uint8 (N, 3, H, W): whole, on white."""
    height, width = pixels.shape[2:]
    side = max(height, width)
    padded = F.pad(pixels.float() / 255, (0, side - width, 0, side - height), value=1.0)
    return padded if side <= _SIDE else F.interpolate(padded, size=_SIDE, mode="area")
