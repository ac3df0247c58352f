"""A tiny network with the components of large ones: convolutions, batch norm and a pooled head."""

from torch import Tensor, nn


class TinyNet(nn.Module):
    """Two strided convolutions and a linear head, for tests and first experiments.

    Args:
        num_classes: Number of logits.
        width: Channels of the first convolution; the second has twice as many.
        dropout: Dropout probability before the head.
    """

    def __init__(self, num_classes: int = 10, width: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(2 * width, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, num_classes) of normalized images (N, 3, H, W)."""
        return self.head(self.pool(self.features(images)))
