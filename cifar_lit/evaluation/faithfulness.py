"""Faithfulness of heatmaps: deletion and insertion curves."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


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
