"""Whether heatmaps show what a network uses: deletion and insertion."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from callbacks.rendering.feature_maps import feature_maps
from callbacks.rendering.heatmaps import Method, heatmaps
from space.evidence import Evidence
from space.markdown import escaped
from space.progress import told
from space.report.document import Document
from space.report.results import pixels_of
from space.similar import evenly

FAST: tuple[Method, ...] = ("gradcam", "gradcam++", "hirescam", "layercam")
_CHANCE = ("random order", "")


@dataclass(frozen=True)
class Faithfulness:
    """Areas under the deletion and the insertion curve, float (N,), of each image."""

    deletion: np.ndarray
    insertion: np.ndarray

    def row(self) -> list[str]:
        """Means of insertion and deletion with their standard errors, as a table has them."""
        return [f"{areas.mean():.3f} ± {standard_error(areas):.3f}" for areas in (self.insertion, self.deletion)]

    def inserts_as_well_as(self, other: "Faithfulness") -> bool:
        """Whether the insertion differs by no more than two standard errors of the difference, image by image."""
        difference = self.insertion - other.insertion
        return abs(float(difference.mean())) <= 2 * standard_error(difference)


def standard_error(values: np.ndarray) -> float:
    """Of the mean of values (N,); 0 of a single one."""
    return float(values.std(ddof=min(1, len(values) - 1)) / len(values) ** 0.5)


@torch.inference_mode()
def areas(
    net: nn.Module, inputs: Tensor, classes: Tensor, maps: Tensor, steps: int = 10, seed: int = 0
) -> Faithfulness:
    """Measures how faithful heatmaps are.

    Deletion: the pixels are replaced by the mean colour, the hottest first; the sooner the class's probability falls,
    the better: a low area under its curve. Insertion: they are put onto the mean colour instead: a high area.

    Args:
        net: The network, in evaluation mode.
        inputs: float (N, C, H, W), with 0 as the mean colour.
        classes: int64 (N, 1), the classes whose probability is watched.
        maps: float (N, H, W).
        steps: Into how many equal steps to cut the order of the pixels.
        seed: Of the order of pixels that are equally hot.

    Source: Petsiuk et al. 2018, arXiv:1806.07421, section 4.1.
    """
    lot = torch.randperm(maps[0].numel(), generator=torch.Generator().manual_seed(seed)).to(maps.device)
    order = maps.flatten(1)[:, lot].argsort(dim=1, descending=True, stable=True)
    ranks = lot[order].argsort(1).view_as(maps)[:, None]  # 0 is the hottest pixel
    curves: list[list[Tensor]] = [[], []]
    for step in range(steps + 1):
        first = ranks < step / steps * ranks[0].numel()
        for curve, kept in zip(curves, (~first, first), strict=True):
            curve.append(net(inputs * kept).softmax(1).gather(1, classes)[:, 0])
    deletion, insertion = (
        torch.trapezoid(torch.stack(curve, 1).double(), dx=1 / steps, dim=1).cpu().numpy() for curve in curves
    )
    return Faithfulness(deletion, insertion)


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
    for method in told(FAST, "Judging heatmaps", len(FAST)):
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


def write_faithfulness(document: Document, evidence: Evidence, most: int, seed: int) -> None:
    """Whether the heatmaps of so many images show what the network uses, by method and layer."""
    document.heading("Faithfulness of the heatmaps")
    net = evidence.trained.network.net
    if not evidence.sets or most == 0:
        document.lacks("Faithfulness", "there are no images at hand" if most else "--faithfulness_images is 0")
        return
    places = evenly(torch.arange(len(evidence.last.rows)), most)
    inputs = evidence.trained.network.inputs_of(pixels_of(evidence, places).to(evidence.trained.device))
    layers = last_of_each_size(feature_maps(net, inputs))
    if not layers:
        document.lacks("Faithfulness", "the network has no feature maps")
        return
    classes = evidence.logits[evidence.last.split][places].argmax(1)[:, None].to(inputs.device)
    try:
        measured = by_method_and_layer(net, inputs, classes, layers, seed)
    except ValueError as error:  # a network that switches gradients off
        document.lacks("Faithfulness", str(error))
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
    where = f" at **{escaped(layer)}**" if layer else ""
    document.text(
        f"Most faithful by insertion here: **{method}**{where}. Within two standard errors of the difference, image by"
        f" image: {close} of the {len(found) - 1} others."
    )
    document.table(["method", "layer", "insertion", "deletion"], [[*name, *one.row()] for name, one in found])
