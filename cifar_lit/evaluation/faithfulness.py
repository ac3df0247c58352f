"""Faithfulness of heatmaps: deletion and insertion curves."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Faithfulness:
    """Areas under the deletion and the insertion curves, float (N,)."""

    deletion: np.ndarray
    insertion: np.ndarray

    def row(self) -> list[str]:
        """Return the means of insertion and deletion with their standard errors, as table cells."""
        return [f"{areas.mean():.3f} ± {standard_error(areas):.3f}" for areas in (self.insertion, self.deletion)]

    def has_similar_insertion(self, other: "Faithfulness") -> bool:
        """Return whether the mean paired difference of insertion is at most two standard errors."""
        difference = self.insertion - other.insertion
        return abs(float(difference.mean())) <= 2 * standard_error(difference)


def standard_error(values: np.ndarray) -> float:
    """Return the standard error of the mean of values (N,); 0 for a single value."""
    return float(values.std(ddof=min(1, len(values) - 1)) / len(values) ** 0.5)


def deletion_insertion(
    net: nn.Module, inputs: Tensor, classes: Tensor, maps: Tensor, steps: int = 10, seed: int = 0
) -> Faithfulness:
    """Return the areas under the deletion and insertion curves of heatmaps.

    Deletion replaces pixels with the mean color, hottest first; the faster the class's probability drops, the
    more faithful the map: a low area under the curve. Insertion adds them to the mean color instead: a high area.

    Args:
        net: The network, in evaluation mode.
        inputs: float (N, C, H, W), with 0 as the mean color.
        classes: int64 (N, 1), the classes whose probability is measured.
        maps: float (N, H, W).
        steps: Number of equal steps that the pixels are divided into.
        seed: Seed of the order of equally hot pixels.

    Source: Petsiuk et al. 2018, arXiv:1806.07421, section 4.1.
    """
    deletion = _area(net, inputs, classes, maps, steps, seed, keep_hottest=False)
    return Faithfulness(deletion, insertion(net, inputs, classes, maps, steps, seed))


def insertion(
    net: nn.Module, inputs: Tensor, classes: Tensor, maps: Tensor, steps: int = 10, seed: int = 0
) -> np.ndarray:
    """Return the areas under the insertion curves, float (N,); see ``deletion_insertion``."""
    return _area(net, inputs, classes, maps, steps, seed, keep_hottest=True)


@torch.inference_mode()
def _area(
    net: nn.Module, inputs: Tensor, classes: Tensor, maps: Tensor, steps: int, seed: int, keep_hottest: bool
) -> np.ndarray:
    shuffled = torch.randperm(maps[0].numel(), generator=torch.Generator().manual_seed(seed)).to(maps.device)
    order = maps.flatten(1)[:, shuffled].argsort(dim=1, descending=True, stable=True)
    ranks = shuffled[order].argsort(1).view_as(maps)[:, None]  # 0 is the hottest pixel
    curve = []
    for step in range(steps + 1):
        hottest = ranks < step / steps * ranks[0].numel()
        kept = hottest if keep_hottest else ~hottest
        curve.append(net(inputs * kept).softmax(1).gather(1, classes)[:, 0].cpu())
    areas: np.ndarray = torch.trapezoid(torch.stack(curve, 1).double(), dx=1 / steps, dim=1).numpy()
    return areas
