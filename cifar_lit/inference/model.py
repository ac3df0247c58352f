"""A trained network as it is judged and shown: pixels in, logits out, nothing else of its training."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifar_lit.models.normalization import PixelNormalization


class InferenceModel(nn.Module):
    """A trained classifier as it is judged: pixels in, logits out, averaged over views of the image if so chosen.

    Its weights have the names that they have in a checkpoint.

    Args:
        normalize: Scales and normalises the pixels.
        net: The network.
        flip_tta: Whether to average over the image and its mirror image.
        translate_tta: Pixels by which the image is moved for further views; 0 for none.
        memory_format: Order of the input in memory; channels last is faster on CPUs and GPUs.
    """

    def __init__(
        self,
        normalize: PixelNormalization,
        net: nn.Module,
        flip_tta: bool = False,
        translate_tta: int = 0,
        memory_format: torch.memory_format = torch.channels_last,
    ) -> None:
        super().__init__()
        self.normalize, self.net = normalize, net
        self.flip_tta, self.translate_tta = flip_tta, translate_tta
        self.memory_format = memory_format

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits float32 (N, classes) of pixels uint8 (N, 3, H, W)."""
        return tta_logits(lambda seen: self.net(self.preprocess(seen)), pixels, self.flip_tta, self.translate_tta)

    def preprocess(self, pixels: Tensor) -> Tensor:
        """What the network takes, float (N, 3, H, W), of pixels (N, 3, H, W), 0 to 255."""
        inputs: Tensor = self.normalize(pixels)
        return inputs.contiguous(memory_format=self.memory_format)


def tta_logits(logits_of: Callable[[Tensor], Tensor], pixels: Tensor, flip_tta: bool, translate_tta: int) -> Tensor:
    """Logits float32 (N, classes) as they are judged: averaged over views of each image, if so chosen.

    Args:
        logits_of: Gives logits (N, classes) of pixels.
        pixels: uint8 (N, 3, H, W).
        flip_tta: Whether to average over the image and its mirror image.
        translate_tta: Pixels by which the image is moved for further views; 0 for none.
    """
    if not (flip_tta or translate_tta):
        return logits_of(pixels).float()
    return sum(
        (weight * logits_of(view).float() for weight, view in views(pixels, flip_tta, translate_tta)),
        start=torch.zeros((), device=pixels.device),
    )


def views(pixels: Tensor, flip: bool, translate: int) -> Iterator[tuple[float, Tensor]]:
    """The views of images that their logits are averaged over, each with its weight; the weights sum to 1.

    Args:
        pixels: uint8 (N, 3, H, W).
        flip: Whether to add the mirror image of every view, with the same weight.
        translate: How many pixels to move the image up and left, and down and right, for two views that weigh half
            together; the border mirrors the image. 0 for none.

    Source: the test-time augmentation of K. Jordan 2024, arXiv:2404.00498, section 3.5.
    """
    placed = [(1.0, pixels)]
    if translate:
        height, width = pixels.shape[-2:]
        padded = F.pad(pixels, [translate] * 4, mode="reflect")
        far = 2 * translate
        moved = [padded[..., :height, :width], padded[..., far : far + height, far : far + width]]
        placed = [(0.5, pixels), *((0.25, view) for view in moved)]
    for weight, view in placed:
        if flip:
            yield weight / 2, view
            yield weight / 2, view.flip(-1)
        else:
            yield weight, view
