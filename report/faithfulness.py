"""Whether heatmaps show what a network uses: deletion and insertion."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from callbacks.rendering.feature_maps import feature_maps
from callbacks.rendering.heatmaps import Method, heatmaps
from callbacks.rendering.markdown import escape
from cifar_lit.evaluation.faithfulness import Faithfulness, areas
from cifar_lit.evaluation.neighbors import evenly
from report.document import Document
from report.results import pixels_of
from space.export.progress import with_progress
from space.export.run_data import RunData

FAST: tuple[Method, ...] = ("gradcam", "gradcam++", "hirescam", "layercam")
_CHANCE = ("random order", "")


def by_method_and_layer(
    net: nn.Module, inputs: Tensor, classes: Tensor, layers: list[str], seed: int = 0
) -> dict[tuple[str, str], Faithfulness]:
    """The areas of each of the fast methods at each layer, and those of a random order, under ("random order", "").

    Args:
        net: The network, in evaluation mode.
        inputs: float (N, C, H, W), with 0 as the mean colour.
        classes: int64 (N, 1).
        layers: Names of layers with feature maps.
        seed: Of the random order, and of that of pixels that are equally hot.
    """
    chance = torch.rand(len(inputs), *inputs.shape[-2:], generator=torch.Generator().manual_seed(seed))
    found = {_CHANCE: areas(net, inputs, classes, chance.to(inputs.device), seed=seed)}
    for method in with_progress(FAST, "Judging heatmaps", len(FAST)):
        for layer, maps in zip(layers, heatmaps(net, layers, inputs, classes, method), strict=True):
            found[method, layer] = areas(net, inputs, classes, maps[:, 0], seed=seed)
    return found


def last_of_each_size(maps: Mapping[str, tuple[int, int, int]]) -> list[str]:
    """The last layer of each size of feature map, the last layer first.

    >>> last_of_each_size({"a": (2, 8, 8), "b": (4, 8, 8), "c": (4, 4, 4)})
    ['c', 'b']
    """
    last = {size[1:]: name for name, size in maps.items()}
    order = list(maps)
    return sorted(last.values(), key=order.index, reverse=True)


def write_faithfulness(document: Document, evidence: RunData, most: int, seed: int) -> None:
    """Whether the heatmaps of so many images show what the network uses, by method and layer."""
    document.heading("Faithfulness of the heatmaps")
    net = evidence.trained.network.net
    if not evidence.sets or most == 0:
        document.missing("Faithfulness", "there are no images at hand" if most else "--faithfulness_images is 0")
        return
    places = evenly(torch.arange(len(evidence.last.rows)), most)
    inputs = evidence.trained.network.preprocess(pixels_of(evidence, places).to(evidence.trained.device))
    layers = last_of_each_size(feature_maps(net, inputs))
    if not layers:
        document.missing("Faithfulness", "the network has no feature maps")
        return
    classes = evidence.logits[evidence.last.split][places].argmax(1)[:, None].to(inputs.device)
    try:
        measured = by_method_and_layer(net, inputs, classes, layers, seed)
    except ValueError as error:  # a network that switches gradients off
        document.missing("Faithfulness", str(error))
        return
    found = sorted(measured.items(), key=lambda pair: -pair[1].insertion.mean())
    document.text(
        f"On {len(places)} {evidence.last.split} images: the predicted class's probability as the hottest pixels are"
        " put onto the mean colour (insertion: higher is better) or taken away (deletion: lower is better), the"
        " area under the curve with its standard error ([Petsiuk et al. 2018](https://arxiv.org/abs/1806.07421), where"
        " insertion begins with the blurred image)."
    )
    (method, layer), best = found[0]
    close = sum(one.inserts_as_well_as(best) for _, one in found[1:])
    where = f" at **{escape(layer)}**" if layer else ""
    document.text(
        f"Most faithful by insertion here: **{method}**{where}. Within two standard errors of the difference, image by"
        f" image: {close} of the {len(found) - 1} others."
    )
    document.table(["method", "layer", "insertion", "deletion"], [[*name, *one.row()] for name, one in found])
