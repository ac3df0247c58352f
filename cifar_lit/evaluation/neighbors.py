"""The training images that a network finds most alike, by what it makes of them before it decides."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_BATCH = 256


class Model(Protocol):
    """A network with its preprocessing, such as cifar_lit.inference.model.InferenceModel."""

    net: nn.Module

    def preprocess(self, pixels: Tensor) -> Tensor:
        """Return the network's input, float (N, 3, H, W), for pixels uint8 (N, 3, H, W)."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return logits (N, C)."""


@contextmanager
def _noting_features(net: nn.Module) -> Iterator[list[Tensor]]:
    """A list that holds, when the network has run, what the layer that ran last took and gave, float (N, F) and (N, C):
    of the linear layers, and of the convolutions whose map was a single pixel."""
    kept: list[Tensor] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if inputs and (isinstance(module, nn.Linear) or (output.dim() == 4 and output.shape[2:] == (1, 1))):
            kept[:] = [inputs[0].flatten(1).float(), output.flatten(1).float()]

    heads = [module for module in net.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    hooks = [module.register_forward_hook(note) for module in heads]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def _alike(given: Tensor, logits: Tensor) -> bool:
    return given.shape == logits.shape and bool((F.cosine_similarity(given, logits, dim=1) > 0.999).all())


@torch.inference_mode()
def features(model: Model, batches: Iterable[Tensor]) -> Tensor:
    """Penultimate features, which the layer takes that gives the logits: of length 1, float32 (N, F), on the CPU.

    Args:
        model: The network, in evaluation mode.
        batches: Pixels uint8 (n, 3, H, W), of N images in all.

    Raises:
        ValueError: if no layer gives the logits, but for their scale.
    """
    device, found = next(model.net.parameters()).device, []
    with _noting_features(model.net) as kept:
        for pixels in batches:
            logits = model.net(model.preprocess(pixels.to(device))).float()
            if not kept or not _alike(kept[1], logits):
                raise ValueError("no layer of the network gives its logits, before which its features could be read")
            found.append(F.normalize(kept[0], dim=1).cpu())
            kept.clear()
    return torch.cat(found)


def nearest(asked: Tensor, among: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """For each image the most alike.

    Args:
        asked: float (N, F), features of length 1.
        among: float (M, F), of length 1.
        count: How many, at most M.

    Returns:
        int64 (N, count), places among the M, the most alike first; float (N, count), their cosine similarities.
    """
    similarities, places = (asked @ among.T).topk(min(count, len(among)))
    return places, similarities


def evenly(rows: Tensor, most: int) -> Tensor:
    """At most so many of these, taken evenly.

    >>> evenly(torch.arange(7), 3).tolist()
    [0, 3, 6]
    """
    return rows[torch.linspace(0, len(rows) - 1, min(most, len(rows))).long()]


def nearest_training_images(
    model: Model, asked: Tensor, pixels: Tensor, rows: Tensor, max_images: int, count: int
) -> tuple[Tensor, Tensor]:
    """Return, for each image, the training images whose features are most similar.

    Args:
        model: The network, in evaluation mode.
        asked: uint8 (N, 3, H, W).
        pixels: uint8 (M, 3, H, W), all images of the data set.
        rows: int64 (n,), those among them that the network was trained on.
        max_images: Number of training images to search, taken evenly from ``rows``.
        count: Number of neighbors per image.

    Returns:
        int64 (N, count), rows of ``pixels``, the most similar first; float (N, count), their cosine similarities.

    Raises:
        ValueError: if no layer gives the logits.
    """
    rows = evenly(rows.cpu(), max_images)
    known = features(model, (pixels[part] for part in rows.split(_BATCH)))
    indices, similarities = nearest(features(model, asked.split(_BATCH)), known, count)
    return rows[indices], similarities
