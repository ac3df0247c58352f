"""ResNet-18 as it is built for 32x32 images: a 3x3 stem without pooling."""

from collections.abc import Sequence

from torch import Tensor, nn


class ResNet18(nn.Module):
    """Residual network of basic blocks for small images; the default depths make a ResNet-18.

    Args:
        num_classes: Number of logits.
        width: Channels of the first stage; each further stage doubles them.
        depths: Basic blocks of each stage.

    Source: He et al. 2015, arXiv:1512.03385, with the CIFAR stem of section 4.2.
    """

    def __init__(self, num_classes: int = 10, width: int = 64, depths: Sequence[int] = (2, 2, 2, 2)) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        stages, channels = [], width
        for number, depth in enumerate(depths):
            outputs = width * 2**number
            blocks = []
            for position in range(depth):
                stride = 2 if number > 0 and position == 0 else 1
                blocks.append(BasicBlock(channels, outputs, stride))
                channels = outputs
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of normalised images (N, 3, H, W)."""
        features = self.stages(self.stem(images))  # (N, 8 width, H/8, W/8)
        return self.head(self.pool(features).flatten(1))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.relu = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, outputs, H / stride, W / stride)."""
        return self.relu(self.branch(features) + self.shortcut(features))
