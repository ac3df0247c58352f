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


class InsertionDeletion:
    """Insertion and deletion curves of heatmaps of the same images.

    Insertion adds pixels to the mean color, hottest first; the faster the class's probability rises, the more faithful
    the map: a high area under the curve. Deletion replaces them with the mean color instead: a low area.

    Args:
        net: The network, in evaluation mode.
        inputs: float (N, C, H, W), with 0 as the mean color.
        classes: int64 (N, 1), the classes whose probability is measured.
        steps: Number of equal steps that the pixels are divided into.
        seed: Seed of the order of equally hot pixels.

    Source: Petsiuk et al. 2018, arXiv:1806.07421, section 4.1.
    """

    def __init__(self, net: nn.Module, inputs: Tensor, classes: Tensor, steps: int = 10, seed: int = 0) -> None:
        self._net, self._inputs, self._classes, self._steps = net, inputs, classes, steps
        pixels = inputs[0, 0].numel()
        self._shuffled = torch.randperm(pixels, generator=torch.Generator().manual_seed(seed)).to(inputs.device)
        with torch.inference_mode():  # the ends of all curves
            self._empty, self._complete = (self._probabilities(images) for images in (inputs * 0, inputs))

    def evaluate(self, maps: Tensor) -> Faithfulness:
        """Return the areas under both curves, for maps float (N, H, W)."""
        return Faithfulness(self._area(maps, keep_hottest=False), self.insertion(maps))

    def insertion(self, maps: Tensor) -> np.ndarray:
        """Return the areas under the insertion curves float (N,), for maps float (N, H, W)."""
        return self._area(maps, keep_hottest=True)

    @torch.inference_mode()
    def _area(self, maps: Tensor, keep_hottest: bool) -> np.ndarray:
        order = maps.flatten(1)[:, self._shuffled].argsort(dim=1, descending=True, stable=True)
        ranks = self._shuffled[order].argsort(1).view_as(maps)[:, None]  # 0 is the hottest pixel
        curve = [self._empty if keep_hottest else self._complete]
        for step in range(1, self._steps):
            hottest = ranks < step / self._steps * ranks[0].numel()
            curve.append(self._probabilities(self._inputs * (hottest if keep_hottest else ~hottest)))
        curve.append(self._complete if keep_hottest else self._empty)
        areas: np.ndarray = torch.trapezoid(torch.stack(curve, 1).double(), dx=1 / self._steps, dim=1).numpy()
        return areas

    def _probabilities(self, images: Tensor) -> Tensor:
        return self._net(images).softmax(1).gather(1, self._classes)[:, 0].cpu()
