"""A first layer fitted to the data instead of trained."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WhiteningConv(nn.Conv2d):
    """A convolution that decorrelates neighboring pixels, with filters fitted to the training images, not trained.

    The filters are the eigenvectors of the patches' covariance matrix, scaled to unit variance, and their negatives,
    since an activation follows. Only the bias is trained.

    Args:
        channels: Number of image channels.
        size: Side length of the patches; there are ``2 * channels * size**2`` filters.
        eps: Added to the eigenvalues, so that directions of almost no variance (noise) are not amplified.
        bias: Whether to add a trainable bias.

    Source: T. Tyler, https://github.com/tysam-code/hlb-CIFAR10 (2022), after D. Page, "How to train your ResNet 8"
    (2019); eps as in K. Jordan, arXiv:2404.00498.
    """

    def __init__(self, channels: int = 3, size: int = 2, eps: float = 5e-4, bias: bool = True) -> None:
        super().__init__(channels, 2 * channels * size**2, size, bias=bias)
        self.eps = eps
        self.weight.requires_grad_(False)

    @torch.no_grad()
    def fit(self, blocks: Iterable[Tensor]) -> None:
        """Fit the filters.

        Args:
            blocks: A few thousand normalized training images, float (N, channels, H, W); in blocks, since their patches
                take 12 times the memory.
        """
        size = self.kernel_size[0]
        covariance = torch.zeros(self.in_channels * size**2, self.in_channels * size**2, device=self.weight.device)
        count = 0
        for block in blocks:
            patches = F.unfold(block.float(), size).transpose(1, 2).flatten(0, 1)  # (N * positions, channels * size**2)
            covariance += patches.T @ patches
            count += len(patches)
        variances, directions = torch.linalg.eigh(covariance / count)  # directions in columns
        filters = (directions / (variances + self.eps).sqrt()).T.reshape(-1, *self.weight.shape[1:])
        self.weight.copy_(torch.cat([filters, -filters]))


def fit_whitening(net: nn.Module, blocks: Sequence[Tensor]) -> None:
    """Fit every WhiteningConv of a network to blocks of normalized images, float (N, C, H, W)."""
    for layer in whitening_layers(net):
        layer.fit(blocks)


def whitening_layers(net: nn.Module) -> list[WhiteningConv]:
    """Return the layers of a network that must be fitted to the data."""
    return [module for module in net.modules() if isinstance(module, WhiteningConv)]
