"""A classifier at inference time: pixels in, logits out, with test-time augmentation (TTA)."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifar_lit.errors import InputError
from cifar_lit.models.pixel_normalization import PixelNormalization

CPU_BATCH = 96  # images at once on a CPU: 1.1 (ResNet-9) to 1.4 times (airbench94) as many a second as with 256
_MIN_CONFIDENCE = 0.7  # of adaptive_tta; predicted the same classes as all views (benchmarks/RESULTS.md)


class InferenceModel(nn.Module):
    """A network with its preprocessing and test-time augmentation.

    Args:
        normalize: Scales and normalizes the pixels.
        net: The network; takes normalized images (N, 3, H, W) and returns logits (N, classes). If it returns an
            object with the attribute ``logits``, it is made to return these.
        flip_tta: Average the logits of each image and its mirror image.
        translate_tta: Average the logits of each image and of copies moved by this many pixels; 0 for none.
        adaptive_tta: Average the views only of images whose most probable class has a probability below 0.7; use the
            logits of the image itself for all others.
        memory_format: Memory layout of the network's input; channels last is faster on CPUs and GPUs.
    """

    def __init__(
        self,
        normalize: PixelNormalization,
        net: nn.Module,
        flip_tta: bool = False,
        translate_tta: int = 0,
        adaptive_tta: bool = False,
        memory_format: torch.memory_format = torch.channels_last,
    ) -> None:
        super().__init__()
        self.normalize, self.net = normalize, net
        net.register_forward_hook(_take_logits)
        self.flip_tta, self.translate_tta, self.adaptive_tta = flip_tta, translate_tta, adaptive_tta
        self.memory_format = memory_format

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits float32 (N, classes) for pixels uint8 (N, 3, H, W), averaged over the views."""
        if not self.adaptive_tta or not (self.flip_tta or self.translate_tta):
            return self._average(tta_views(pixels, self.flip_tta, self.translate_tta))
        logits = self.single_view(pixels)
        uncertain = (logits.softmax(1).amax(1) < _MIN_CONFIDENCE).nonzero()[:, 0]
        if len(uncertain):
            (weight, _), *others = tta_views(pixels[uncertain], self.flip_tta, self.translate_tta)
            logits[uncertain] = weight * logits[uncertain] + self._average(others)
        return logits

    def _average(self, views: Iterable[tuple[float, Tensor]]) -> Tensor:
        return torch.stack([weight * self.single_view(view) for weight, view in views]).sum(0)

    def preprocess(self, pixels: Tensor) -> Tensor:
        """Return the network's input, float (N, 3, H, W), for pixels (N, 3, H, W) in [0, 255]."""
        inputs: Tensor = self.normalize(pixels)
        return inputs.contiguous(memory_format=self.memory_format)

    def single_view(self, pixels: Tensor) -> Tensor:
        """Return logits float32 (N, classes) for pixels uint8 (N, 3, H, W), without test-time augmentation."""
        size = CPU_BATCH if pixels.device.type == "cpu" else max(1, len(pixels))
        return torch.cat([self.net(self.preprocess(part)).float() for part in pixels.split(size)])


def _take_logits(net: nn.Module, inputs: Any, output: Any) -> Tensor:
    """Return the logits of a network that returns more, such as torchvision's GoogLeNet when it is trained."""
    if not isinstance(output, Tensor):
        output = getattr(output, "logits", output)
    if not isinstance(output, Tensor):
        raise InputError(
            f"the network {type(net).__name__} must return logits, a tensor, or an object with the attribute logits;"
            f" it returned a {type(output).__name__}"
        )
    return output


def tta_views(pixels: Tensor, flip: bool, translate: int) -> Iterator[tuple[float, Tensor]]:
    """Yield the views of images whose logits are averaged, each with its weight; the weights sum to 1.

    Args:
        pixels: uint8 (N, 3, H, W).
        flip: Whether each view is followed by its mirror image, with the same weight.
        translate: Shift in pixels of two additional views, one up and left, one down and right; together they
            get half of the weight. Borders are padded by reflection; 0 disables it.

    Source: the test-time augmentation of K. Jordan 2024, arXiv:2404.00498, section 3.5.
    """
    positions = [(1.0, pixels)]
    if translate:
        height, width = pixels.shape[-2:]
        padded = F.pad(pixels, [translate] * 4, mode="reflect")
        far = 2 * translate
        moved = [padded[..., :height, :width], padded[..., far : far + height, far : far + width]]
        positions = [(0.5, pixels), *((0.25, view) for view in moved)]
    for weight, view in positions:
        if flip:
            yield weight / 2, view
            yield weight / 2, view.flip(-1)
        else:
            yield weight, view
