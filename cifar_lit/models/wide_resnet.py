"""Wide residual networks: fewer, wider layers with normalization before each convolution."""

import torch
from torch import Tensor, nn

from cifar_lit.errors import InputError


class WideResNet(nn.Module):
    """WRN-depth-width, for example WRN-16-4 (the default) or WRN-28-10.

    Args:
        num_classes: Number of logits.
        depth: Number of layers: 6 n + 4 (10, 16, 22, 28, 40, ...).
        width: Multiplier of the 16, 32 and 64 channels of a plain residual network.
        dropout: Dropout probability between the two convolutions of a block.

    Source: Zagoruyko & Komodakis 2016, arXiv:1605.07146, table 1.
    """

    def __init__(self, num_classes: int = 10, depth: int = 16, width: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise InputError(f"depth must be 6 n + 4 (10, 16, 22, 28, 40, ...), got {depth}")
        blocks = (depth - 4) // 6
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        stages, channels = [], 16
        for stage in range(3):
            out_channels = 16 * width * 2**stage
            layers = []
            for position in range(blocks):
                stride = 2 if stage > 0 and position == 0 else 1
                layers.append(WideBlock(channels, out_channels, stride, dropout))
                channels = out_channels
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.norm = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, num_classes) of normalized images (N, 3, H, W)."""
        features = self.norm(self.stages(self.stem(images)))  # (N, 64 width, H/4, W/4)
        return self.head(self.pool(features).flatten(1))


class WideBlock(nn.Module):
    """Pre-activation block; its shortcut starts after the first ReLU if the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU())
        self.branch = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            *([nn.Dropout(dropout)] if dropout else []),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )
        same_shape = stride == 1 and in_channels == channels
        self.shortcut = None if same_shape else nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return features (N, channels, H / stride, W / stride)."""
        activated = self.before(features)
        shortcut = features if self.shortcut is None else self.shortcut(activated)
        return torch.add(self.branch(activated), shortcut)
