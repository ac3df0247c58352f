"""Mixup and CutMix: training on blends of two images and their labels."""

from functools import cache

import torch
from torch import nn

from cifar_lit.data.batches import Batch


def mix(batch: Batch, alphas: tuple[float, float], num_classes: int, seed: int) -> Batch:
    """Apply torchvision's MixUp or CutMix to a batch; with both enabled, one of the two at random.

    Args:
        batch: The batch.
        alphas: Alpha of MixUp and of CutMix; 0 disables it.
        num_classes: Number of classes.
        seed: Seed of the random draws.

    Returns:
        The batch with float32 pixels, still 0 to 255, and float32 labels (N, classes) that sum to 1.
    """
    with torch.random.fork_rng(devices=[]):  # the transforms draw from torch's global CPU generator
        torch.default_generator.manual_seed(seed)  # unlike torch.manual_seed, leaves the accelerators' alone
        pixels, labels = _transform(alphas, num_classes)(batch.pixels.float(), batch.labels)
    return Batch(pixels, labels, batch.indices)


@cache
def _transform(alphas: tuple[float, float], num_classes: int) -> nn.Module:
    from torchvision.transforms import v2  # 4 s to import, and only needed here

    kinds = zip((v2.MixUp, v2.CutMix), alphas, strict=True)
    return v2.RandomChoice([kind(alpha=alpha, num_classes=num_classes) for kind, alpha in kinds if alpha])
