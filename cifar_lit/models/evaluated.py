"""A trained network as it is judged and shown: pixels in, logits out, nothing else of its training."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cifar_lit.models.normalization import PixelNormalization


class EvaluatedClassifier(nn.Module):
    """A trained classifier as it is judged: pixels in, logits out, averaged with the mirror image's if so chosen.

    Its weights have the names that they have in a checkpoint.

    Args:
        normalize: Scales and normalises the pixels.
        net: The network.
        flip_tta: Whether to average over the image and its mirror image.
    """

    def __init__(self, normalize: PixelNormalization, net: nn.Module, flip_tta: bool = False) -> None:
        super().__init__()
        self.normalize, self.net, self.flip_tta = normalize, net, flip_tta

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits float32 (N, classes) of pixels uint8 (N, 3, H, W)."""
        return judged_logits(lambda seen: self.net(self.inputs_of(seen)), pixels, self.flip_tta)

    def inputs_of(self, pixels: Tensor) -> Tensor:
        """What the network takes, float (N, 3, H, W), of pixels (N, 3, H, W), 0 to 255."""
        inputs: Tensor = self.normalize(pixels)
        return inputs.contiguous(memory_format=torch.channels_last)  # which is faster on CPUs and GPUs


def judged_logits(logits_of: Callable[[Tensor], Tensor], pixels: Tensor, flip_tta: bool) -> Tensor:
    """Logits float32 (N, classes) as they are judged: with the mirror image's, if so chosen.

    Args:
        logits_of: Gives logits (N, classes) of pixels.
        pixels: uint8 (N, 3, H, W).
        flip_tta: Whether to average over the image and its mirror image.
    """
    logits = logits_of(pixels).float()
    return (logits + logits_of(pixels.flip(-1)).float()) / 2 if flip_tta else logits
