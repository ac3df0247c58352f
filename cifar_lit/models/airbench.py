"""The airbench network, which reaches 94 % on CIFAR-10 in the fewest operations known."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cifar_lit.errors import InputError
from cifar_lit.models.whitening import WhiteningConv


class AirbenchNet(nn.Module):
    """A whitening convolution, three groups of convolutions that each halve the image, and a scaled linear head.

    Args:
        num_classes: Number of logits.
        widths: Channels of each group.
        depth: Convolutions per group: 2, or 3 with a shortcut around the last two.
        norm_momentum: Momentum of the batch norms' running statistics, i.e. the weight of the newest batch.
        whitening_bias: Whether the whitening convolution has a bias, its only trained parameter.
        head_std: Standard deviation of the head's initial weights.

    Source: K. Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (2024), arXiv:2404.00498, and
    https://github.com/KellerJordan/cifar10-airbench. The defaults are those of airbench94; configs/airbench96.yaml
    has those of airbench96.
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
            raise InputError(f"depth must be 2 or 3 and widths not empty, got {depth} and {list(widths)}")
        self.whiten = WhiteningConv(bias=whitening_bias)
        in_channels = [self.whiten.out_channels, *widths[:-1]]
        self.activation = nn.GELU()
        self.groups = nn.Sequential(
            *(ConvGroup(*channels, depth, norm_momentum) for channels in zip(in_channels, widths, strict=True))
        )
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.head = nn.Linear(widths[-1], num_classes, bias=False)
        with torch.no_grad():
            self.head.weight *= head_std / self.head.weight.std()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, num_classes) of normalized images (N, 3, H, W), with H and W of at least 9."""
        features = self.groups(self.activation(self.whiten(images)))  # (N, widths[-1], H // 8 - 1, W // 8 - 1) at 32x32
        pooled = self.pool(features).flatten(1)
        return self.head(pooled) / pooled.shape[1]  # so that the initial probabilities are nearly equal


class ConvGroup(nn.Module):
    """Convolutions with norm and GELU, with a max-pool after the first that halves the image."""

    def __init__(self, in_channels: int, channels: int, depth: int, norm_momentum: float) -> None:
        super().__init__()
        self.first = nn.Sequential(
            dirac_conv(in_channels, channels), nn.MaxPool2d(2), fixed_scale_norm(channels, norm_momentum), nn.GELU()
        )
        layers: list[nn.Module] = [dirac_conv(channels, channels), fixed_scale_norm(channels, norm_momentum)]
        if depth == 3:
            layers += [nn.GELU(), dirac_conv(channels, channels), fixed_scale_norm(channels, norm_momentum)]
        self.branch = nn.Sequential(*layers)
        self.has_shortcut = depth == 3
        self.activation = nn.GELU()

    def forward(self, features: Tensor) -> Tensor:
        """Return features (N, channels, H // 2, W // 2)."""
        features = self.first(features)
        branch = self.branch(features)
        return self.activation(features + branch if self.has_shortcut else branch)


def dirac_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a 3x3 convolution initialized to pass its input through as its first output channels.

    Source: arXiv:2404.00498, section 3.2, after Zagoruyko & Komodakis 2017, arXiv:1706.00388.
    """
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    nn.init.dirac_(convolution.weight[:in_channels])
    return convolution


def fixed_scale_norm(channels: int, momentum: float) -> nn.BatchNorm2d:
    """Return a batch norm whose scale is fixed at 1, which makes training more stable; later layers can learn it."""
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=momentum)
    norm.weight.requires_grad_(False)
    return norm
