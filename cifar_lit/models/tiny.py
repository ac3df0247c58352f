"""The smallest network that behaves like the large ones: convolutions, batch norm, a pooled head."""

from torch import Tensor, nn


class TinyNet(nn.Module):
    """Two strided convolutions and a linear head: trains in milliseconds, for tests and first tries.

    Args:
        num_classes: Number of logits.
        width: Channels of the first convolution; the second has twice as many.
        dropout: Probability of dropping an activation before the head.
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
        """Logits (N, num_classes) of normalised images (N, 3, H, W)."""
        return self.head(self.pool(self.features(images)))
