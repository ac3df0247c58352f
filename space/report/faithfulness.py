"""Whether heatmaps show what a network uses: deletion and insertion."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from callbacks.rendering.heatmaps import Method, heatmaps

FAST: tuple[Method, ...] = ("gradcam", "gradcam++", "hirescam", "layercam")


@dataclass(frozen=True)
class Faithfulness:
    """Mean areas under the deletion and the insertion curve, with their standard errors."""

    deletion: float
    deletion_error: float
    insertion: float
    insertion_error: float

    def row(self) -> list[str]:
        """Insertion and deletion, as a table has them."""
        return [
            f"{mean:.3f} ± {error:.3f}"
            for mean, error in ((self.insertion, self.insertion_error), (self.deletion, self.deletion_error))
        ]


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
    found = []
    for curve in curves:
        area = torch.trapezoid(torch.stack(curve, 1), dx=1 / steps, dim=1)
        found += [float(area.mean()), float(area.std(correction=min(1, len(area) - 1)) / len(area) ** 0.5)]
    return Faithfulness(*found)


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
    found = {("random order", ""): areas(net, inputs, classes, chance.to(inputs.device), seed=seed)}
    for method in FAST:
        for layer, maps in zip(layers, heatmaps(net, layers, inputs, classes, method), strict=True):
            found[method, layer] = areas(net, inputs, classes, maps[:, 0], seed=seed)
    return found
