"""Faster training of convolutions of small feature maps on CPUs with AMX, Intel's matrix instructions."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_ROW = 32  # values that AMX multiplies at once, and that oneDNN takes from one row of a feature map
_MAX_WIDTH = 8  # wider feature maps gain nothing
_MIN_CHANNELS = 256  # convolutions of fewer channels take little time


def speed_up_small_convolutions(net: nn.Module) -> None:
    """Let convolutions compute their weight gradients for several images at once, if the CPU has AMX.

    Only under bfloat16 autocast, for feature maps up to 8 pixels wide, and for convolutions of at least 256 channels
    that keep the size. The gradients differ by no more than the rounding of another order of summation.
    """
    if not torch.cpu.get_capabilities().get("amx_bf16"):
        return
    for module in net.modules():
        if type(module) is nn.Conv2d and _pays_off(module):
            module.__class__ = SideBySideConv2d


def _pays_off(layer: nn.Conv2d) -> bool:
    """Return whether a layer has enough channels, no stride, dilation and groups, and keeps the size."""
    if min(layer.in_channels, layer.out_channels) < _MIN_CHANNELS:
        return False
    if (layer.stride, layer.dilation, layer.groups, layer.padding_mode) != ((1, 1), (1, 1), 1, "zeros"):
        return False
    return isinstance(layer.padding, tuple) and layer.kernel_size == tuple(2 * side + 1 for side in layer.padding)


class SideBySideConv2d(nn.Conv2d):
    """A convolution that computes its weight gradient on images side by side."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of features (N, C, H, W)."""
        is_trained = self.training and torch.is_grad_enabled() and self.weight.requires_grad
        is_small = input.ndim == 4 and input.device.type == "cpu" and 1 < input.shape[-1] <= _MAX_WIDTH
        if not (is_trained and is_small and torch.is_autocast_enabled("cpu")):
            return super().forward(input)
        dtype = torch.get_autocast_dtype("cpu")
        bias = None if self.bias is None else self.bias.to(dtype)
        return _SideBySide.apply(input.to(dtype), self.weight.to(dtype), bias, list(self.padding))


class _SideBySide(torch.autograd.Function):
    """A convolution whose backward pass lays several images side by side, with zeros in between.

    oneDNN multiplies blocks of 32 pixels of a row, which the rows of a small feature map fill to a small part.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, padding: list[int]) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.padding, ctx.has_bias = padding, bias is not None
        return F.conv2d(images, weight, bias, padding=padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None]:
        images, weight = ctx.saved_tensors
        inputs = _gradients(ctx, gradient, images, weight, [True, False])[0] if ctx.needs_input_grad[0] else None
        gap = ctx.padding[1]
        count = math.gcd(len(images), 2 ** max(0, round(math.log2(_ROW / (images.shape[-1] + gap)))))
        wide_gradient, wide_images = (_side_by_side(features, count, gap) for features in (gradient, images))
        weights = _gradients(ctx, wide_gradient, wide_images, weight, [False, True])[1]
        return inputs, weights, gradient.sum((0, 2, 3)) if ctx.has_bias else None, None


def _gradients(ctx: Any, gradient: Tensor, images: Tensor, weight: Tensor, wanted: list[bool]) -> tuple[Tensor, ...]:
    """Return the gradients of a convolution's input and weight; the ones not wanted are empty."""
    fixed = [1, 1], ctx.padding, [1, 1], False, [0, 0], 1, [*wanted, False]
    return torch.ops.aten.convolution_backward(gradient, images, weight, None, *fixed)


def _side_by_side(features: Tensor, count: int, gap: int) -> Tensor:
    """Return features (N, C, H, W) as (N / count, C, H, count (W + gap)), with ``gap`` zeros after each row."""
    images, channels, height, width = features.shape
    wide = features.new_empty(images // count, height, count, width + gap, channels)
    wide[:, :, :, width:] = 0
    wide[:, :, :, :width] = features.permute(0, 2, 3, 1).unflatten(0, (-1, count)).transpose(1, 2)
    return wide.flatten(2, 3).permute(0, 3, 1, 2)
