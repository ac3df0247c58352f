"""Mixup and CutMix: training on blends of two images and their labels."""

import torch
from torch import nn

from cifar_lit.data.batches import Batch


class Mixup:
    """Apply torchvision's MixUp or CutMix to a batch; with both enabled, one of the two at random.

    Args:
        mixup_alpha: Alpha of mixup; 0 disables it.
        cutmix_alpha: Alpha of CutMix; 0 disables it.
        num_classes: Number of classes.
    """

    def __init__(self, mixup_alpha: float, cutmix_alpha: float, num_classes: int) -> None:
        from torchvision.transforms import v2  # 4 s to import, and only needed here

        transforms: list[nn.Module] = []
        if mixup_alpha:
            transforms.append(v2.MixUp(alpha=mixup_alpha, num_classes=num_classes))
        if cutmix_alpha:
            transforms.append(v2.CutMix(alpha=cutmix_alpha, num_classes=num_classes))
        self._transform = v2.RandomChoice(transforms)

    def __call__(self, batch: Batch, seed: int) -> Batch:
        """Return the batch with float32 pixels, still 0 to 255, and float32 labels (N, classes) that sum to 1."""
        with torch.random.fork_rng(devices=[]):  # the transforms draw from torch's global CPU generator
            torch.default_generator.manual_seed(seed)  # unlike torch.manual_seed, leaves the accelerators' alone
            pixels, labels = self._transform(batch.pixels.float(), batch.labels)
        return Batch(pixels, labels, batch.indices)
