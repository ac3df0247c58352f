"""The network of the airbench records, which trains to 94 % on CIFAR-10 in the fewest operations known."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cifar_lit.errors import InputError
from cifar_lit.models.whitening import WhiteningConv


class AirbenchNet(nn.Module):
    """A whitening convolution, three groups of convolutions with GELU that halve the image, and a scaled linear head.

    Args:
        num_classes: Number of logits.
        widths: Channels of the three groups.
        depth: Convolutions in a group: 2, or 3 with a shortcut around the last two.
        norm_momentum: Weight of the newest batch in the running statistics of the norms.
        whitening_bias: Whether the whitening convolution has a bias, the one part of it that is trained.
        head_std: Standard deviation of the head's initial weights.

    Source: K. Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (2024), arXiv:2404.00498, and
    https://github.com/KellerJordan/cifar10-airbench: the defaults are airbench94's, configs/airbench96.yaml has those
    of airbench96.
    """

    def __init__(
        self,
        num_classes: int = 10,
        widths: Sequence[int] = (64, 256, 256),
        depth: int = 2,
        norm_momentum: float = 0.4,
        whitening_bias: bool = True,
        head_std: float = 1.0,
    ) -> None:
        super().__init__()
        if depth not in (2, 3) or not widths:
            raise InputError(f"depth must be 2 or 3, and widths not empty, got {depth} and {list(widths)}")
        self.whiten = WhiteningConv(bias=whitening_bias)
        inputs = [self.whiten.out_channels, *widths[:-1]]
        self.activation = nn.GELU()
        self.groups = nn.Sequential(
            *(ConvGroup(before, after, depth, norm_momentum) for before, after in zip(inputs, widths, strict=True))
        )
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.head = nn.Linear(widths[-1], num_classes, bias=False)
        with torch.no_grad():
            self.head.weight *= head_std / self.head.weight.std()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of normalised images (N, 3, H, W), for H and W of at least 9."""
        features = self.groups(self.activation(self.whiten(images)))  # (N, widths[-1], H // 8 - 1, W // 8 - 1) for 32
        pooled = self.pool(features).flatten(1)
        return self.head(pooled) / pooled.shape[1]  # so that training begins with nearly equal probabilities


class ConvGroup(nn.Module):
    """Convolutions with norm and GELU; after the first, a max-pool that halves the image."""

    def __init__(self, inputs: int, outputs: int, depth: int, norm_momentum: float) -> None:
        super().__init__()
        self.first = nn.Sequential(
            conv_like_identity(inputs, outputs), nn.MaxPool2d(2), shift_norm(outputs, norm_momentum), nn.GELU()
        )
        layers: list[nn.Module] = [conv_like_identity(outputs, outputs), shift_norm(outputs, norm_momentum)]
        if depth == 3:
            layers += [nn.GELU(), conv_like_identity(outputs, outputs), shift_norm(outputs, norm_momentum)]
        self.branch = nn.Sequential(*layers)
        self.has_shortcut = depth == 3
        self.activation = nn.GELU()

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, outputs, H // 2, W // 2)."""
        features = self.first(features)
        branch = self.branch(features)
        return self.activation(features + branch if self.has_shortcut else branch)


def conv_like_identity(inputs: int, outputs: int) -> nn.Conv2d:
    """3x3 convolution that starts by handing its inputs on as its first outputs.

    Source: arXiv:2404.00498, section 3.2, after Zagoruyko & Komodakis 2017, arXiv:1706.00388.
    """
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.dirac_(convolution.weight[:inputs])
    return convolution


def shift_norm(channels: int, momentum: float) -> nn.BatchNorm2d:
    """Batch norm whose scale stays 1: what follows can learn it, and training is more stable without."""
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=momentum)
    norm.weight.requires_grad_(False)
    return norm
