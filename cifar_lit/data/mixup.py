"""Mixup and CutMix: training on blends of two images and of their labels."""

import torch
from torch import nn

from cifar_lit.data.batches import Batch


class Mixing:
    """Blends each image of a batch with its neighbour, by torchvision's own transforms.

    Args:
        mixup: Alpha of mixup; 0 leaves it out.
        cutmix: Alpha of CutMix; 0 leaves it out.
        num_classes: Number of classes.
    """

    def __init__(self, mixup: float, cutmix: float, num_classes: int) -> None:
        from torchvision.transforms import v2  # 4 s to import, and only needed here

        kinds: list[nn.Module] = []
        if mixup:
            kinds.append(v2.MixUp(alpha=mixup, num_classes=num_classes))
        if cutmix:
            kinds.append(v2.CutMix(alpha=cutmix, num_classes=num_classes))
        self._mix = v2.RandomChoice(kinds)

    def __call__(self, batch: Batch, seed: int) -> Batch:
        """The batch with float32 pixels, still 0 to 255, and float32 labels (N, classes) that sum to 1."""
        with torch.random.fork_rng(devices=[]):  # the transforms draw from torch's global generator on the CPU
            torch.default_generator.manual_seed(seed)  # as in `reseed`, not the accelerators'
            pixels, labels = self._mix(batch.pixels.float(), batch.labels)
        return Batch(pixels, labels, batch.indices)
