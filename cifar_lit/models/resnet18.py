"""ResNet-18 for 32x32 images, with a 3x3 stem and no pooling after it."""

from collections.abc import Sequence

from torch import Tensor, nn


class ResNet18(nn.Module):
    """Residual network of basic blocks for small images; a ResNet-18 by default.

    Args:
        num_classes: Number of logits.
        width: Channels of the first stage; doubled in each later stage.
        depths: Basic blocks in each stage.

    Source: He et al. 2015, arXiv:1512.03385, with the CIFAR stem of section 4.2.
    """

    def __init__(self, num_classes: int = 10, width: int = 64, depths: Sequence[int] = (2, 2, 2, 2)) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        stages, channels = [], width
        for stage, depth in enumerate(depths):
            out_channels = width * 2**stage
            blocks = []
            for position in range(depth):
                stride = 2 if stage > 0 and position == 0 else 1
                blocks.append(BasicBlock(channels, out_channels, stride))
                channels = out_channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, num_classes) of normalized images (N, 3, H, W)."""
        features = self.stages(self.stem(images))  # (N, 8 width, H/8, W/8)
        return self.head(self.pool(features).flatten(1))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut, a 1x1 convolution if the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.relu = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """Return features (N, channels, H / stride, W / stride)."""
        return self.relu(self.branch(features) + self.shortcut(features))
