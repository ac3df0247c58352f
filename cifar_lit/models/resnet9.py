"""ResNet-9, the small, fast residual network of the DAWNBench CIFAR-10 entries, and its common variants."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from cifar_lit.errors import InputError

Norm = Literal["batch", "group", "layer"]


class ResNet9(nn.Module):
    """ResNet-9: a stem, three stages that double the channels and halve the size, and a global max-pool.

    Args:
        num_classes: Number of logits.
        width: Channels of the stem; the three stages have 2, 4 and 8 times as many.
        residual_layers: Stages (1 to 3) that end with a residual block.
        bias: Whether the 3x3 convolutions have a bias.
        relu_before_add: Put the last ReLU of a residual block before the addition, in its branch, instead of after it.
        dropout: Dropout probability after each ReLU.
        norm: ``batch``, ``group`` (32 channels per group) or ``layer`` (all channels in one group).
        head: ``linear``, with a bias, or ``conv``, a 1x1 convolution without one.

    Source: D. Page, "How to train your ResNet" (2018), https://github.com/davidcpage/cifar10-fast.
    """

    def __init__(
        self,
        num_classes: int = 10,
        width: int = 64,
        residual_layers: Sequence[int] = (1, 3),
        bias: bool = False,
        relu_before_add: bool = False,
        dropout: float = 0.0,
        norm: Norm = "batch",
        head: Literal["linear", "conv"] = "linear",
    ) -> None:
        super().__init__()
        if not set(residual_layers) <= {1, 2, 3}:
            raise InputError(f"residual_layers must be taken from 1, 2, 3, got {list(residual_layers)}")

        def block(in_channels: int, out_channels: int, pool: bool) -> nn.Sequential:
            return conv_block(in_channels, out_channels, pool, bias=bias, dropout=dropout, norm=norm)

        def stage(number: int) -> nn.Sequential:
            out_channels = width * 2**number
            layers: list[nn.Module] = [block(out_channels // 2, out_channels, pool=True)]
            if number in residual_layers:
                branch = [block(out_channels, out_channels, pool=False), block(out_channels, out_channels, pool=False)]
                layers.append(Residual(nn.Sequential(*branch), relu_before_add))
            return nn.Sequential(*layers)

        self.prep = block(3, width, pool=False)
        self.layer1 = stage(1)
        self.layer2 = stage(2)
        self.layer3 = stage(3)
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.head: nn.Module
        if head == "linear":
            self.head = nn.Sequential(nn.Flatten(), nn.Linear(8 * width, num_classes))
        else:
            self.head = nn.Sequential(nn.Conv2d(8 * width, num_classes, 1, bias=False), nn.Flatten())

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, num_classes) of normalized images (N, 3, H, W), with H and W of at least 8."""
        features = self.layer3(self.layer2(self.layer1(self.prep(images))))  # (N, 8 width, H/8, W/8)
        return self.head(self.pool(features))


class Residual(nn.Module):
    """``x + branch(x)``, with the last ReLU in the branch or after the addition.

    Args:
        branch: Two convolution blocks, each convolution-norm-ReLU(-dropout).
        relu_before_add: False moves the layers after the branch's last norm to after the addition.
    """

    def __init__(self, branch: nn.Sequential, relu_before_add: bool) -> None:
        super().__init__()
        self.after = nn.Sequential()
        if not relu_before_add:
            first, last = branch.children()
            convolution, norm, *activation = last.children()
            branch = nn.Sequential(first, nn.Sequential(convolution, norm))
            self.after = nn.Sequential(*activation)
        self.branch = branch

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape, (N, C, H, W)."""
        return self.after(features + self.branch(features))


def conv_block(in_channels: int, channels: int, pool: bool, *, bias: bool, dropout: float, norm: Norm) -> nn.Sequential:
    """Return a 3x3 convolution, optional 2x2 max-pool, norm, ReLU and optional dropout."""
    layers: list[nn.Module] = [nn.Conv2d(in_channels, channels, 3, padding=1, bias=bias)]
    if pool:
        layers.append(nn.MaxPool2d(2))
    layers += [norm_layer(norm, channels), nn.ReLU()]
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """Return the named normalization layer for (N, channels, H, W)."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    # 32 channels per group, within the best range of Wu & He 2018 (arXiv:1803.08494, table 3)
    return nn.GroupNorm(1 if norm == "layer" else max(1, channels // 32), channels)
