"""ResNet-9, the small fast residual network of the DAWNBench CIFAR-10 entries, and its common variants."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from cifar_lit.errors import InputError

Norm = Literal["batch", "group", "layer"]


class ResNet9(nn.Module):
    """ResNet-9: a stem, three stages that double the channels and halve the size, and a global max-pool.

    Args:
        num_classes: Number of logits.
        width: Channels of the stem; the stages have 2, 4 and 8 times as many.
        residual_layers: The stages (1 to 3) that end with a residual block.
        bias: Whether the 3x3 convolutions have a bias.
        relu_before_add: Whether a residual block's last ReLU stands in its branch, before the addition, or after it.
        dropout: Probability of dropping an activation, after each ReLU.
        norm: ``batch``, ``group`` (32 channels a group) or ``layer`` (all channels of an image in one group).
        head: ``linear`` has a bias, ``conv`` is a 1x1 convolution without one.

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

        def block(inputs: int, outputs: int, pool: bool) -> nn.Sequential:
            return conv_block(inputs, outputs, pool, bias=bias, dropout=dropout, norm=norm)

        def stage(number: int) -> nn.Sequential:
            outputs = width * 2**number
            layers: list[nn.Module] = [block(outputs // 2, outputs, pool=True)]
            if number in residual_layers:
                branch = [block(outputs, outputs, pool=False), block(outputs, outputs, pool=False)]
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
        """Logits (N, num_classes) of normalised images (N, 3, H, W), for H and W of at least 8."""
        features = self.layer3(self.layer2(self.layer1(self.prep(images))))  # (N, 8 width, H/8, W/8)
        return self.head(self.pool(features))


class Residual(nn.Module):
    """``x + branch(x)``, its last ReLU in the branch or after the sum.

    Args:
        branch: Two convolution blocks, each convolution-norm-ReLU(-dropout).
        relu_before_add: False moves what follows the branch's last norm to after the addition.
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
        """Features (N, C, H, W) of the same shape."""
        return self.after(features + self.branch(features))


def conv_block(inputs: int, outputs: int, pool: bool, *, bias: bool, dropout: float, norm: Norm) -> nn.Sequential:
    """3x3 convolution, max-pool 2 if asked, norm, ReLU, dropout if any."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)]
    if pool:
        layers.append(nn.MaxPool2d(2))
    layers += [norm_layer(norm, outputs), nn.ReLU()]
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """The normalisation of that name over (N, channels, H, W)."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    # 32 channels a group: within what Wu & He 2018 (arXiv:1803.08494, table 3) found best
    return nn.GroupNorm(1 if norm == "layer" else max(1, channels // 32), channels)
