"""Nearest training images of an image, by penultimate features."""

import copy
from collections.abc import Iterable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifar_lit.errors import InputError

_QUERIES = 1000  # at a time


class Model(Protocol):
    """A network with its preprocessing, such as cifar_lit.inference.model.InferenceModel."""

    net: nn.Module

    def preprocess(self, pixels: Tensor) -> Tensor:
        """Return the network's input, float (N, 3, H, W), for pixels uint8 (N, 3, H, W)."""


def _capture_head(net: nn.Module) -> tuple[nn.Module, list[Tensor]]:
    """Return a copy of the network, and a list that it fills with the input (N, F) and output (N, C) of its last layer.

    That is the linear layer, or convolution with an output of one pixel, that ran last. The copy shares the weights;
    the network itself is not modified, so that several threads may share it.
    """
    twin = copy.deepcopy(net, {id(tensor): tensor for tensor in (*net.parameters(), *net.buffers())})
    captured: list[Tensor] = []

    def capture(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if inputs and (isinstance(module, nn.Linear) or (output.dim() == 4 and output.shape[2:] == (1, 1))):
            captured[:] = [inputs[0].flatten(1).float(), output.flatten(1).float()]

    for module in twin.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(capture)
    return twin, captured


@torch.inference_mode()
def features(model: Model, batches: Iterable[Tensor]) -> Tensor:
    """Return the inputs of the layer that computes the logits, normalized to length 1: float32 (N, F), on the CPU.

    Args:
        model: The network, in evaluation mode.
        batches: Pixels uint8 (n, 3, H, W), N images in all.

    Raises:
        InputError: if no layer's output equals the logits up to their scale.
    """
    device, result = next(model.net.parameters()).device, []
    net, captured = _capture_head(model.net)
    for pixels in batches:
        logits = net(model.preprocess(pixels.to(device))).float()
        if (
            not captured
            or captured[1].shape != logits.shape
            or not (F.cosine_similarity(captured[1], logits, dim=1) > 0.999).all()
        ):
            raise InputError("no layer of the network outputs its logits, so it has no penultimate features")
        result.append(F.normalize(captured[0], dim=1).cpu())
        captured.clear()
    return torch.cat(result)


def nearest(queries: Tensor, candidates: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the most similar candidates of each query.

    Args:
        queries: float (N, F), features of length 1.
        candidates: float (M, F), features of length 1.
        count: Number of candidates per query; at most M are returned.

    Returns:
        int64 (N, count), rows of the candidates, the most similar first; float (N, count), their cosine similarities.
    """
    count = min(count, len(candidates))
    similarities, indices = zip(*((part @ candidates.T).topk(count) for part in queries.split(_QUERIES)), strict=True)
    return torch.cat(indices), torch.cat(similarities)


def evenly_spaced(rows: Tensor, max_count: int) -> Tensor:
    """Return at most ``max_count`` of the rows, evenly spaced.

    >>> evenly_spaced(torch.arange(7), 3).tolist()
    [0, 3, 6]
    """
    return rows[torch.linspace(0, len(rows) - 1, min(max_count, len(rows))).long()]
