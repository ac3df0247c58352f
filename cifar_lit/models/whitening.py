"""A first layer that is computed from the data instead of trained."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WhiteningConv(nn.Conv2d):
    """A convolution that decorrelates neighbouring pixels: its filters are fitted to the training images, not trained.

    They are the eigenvectors of the patches' covariance, each scaled to unit variance, and the same with the other
    sign, since an activation follows. Only the bias is trained.

    Args:
        channels: Channels of the images.
        size: Side of the patches; there are ``2 * channels * size**2`` filters.
        eps: Added to the eigenvalues, so that directions of next to no variance (noise) are not blown up.
        bias: Whether there is a bias, to be trained.

    Source: T. Tyler, https://github.com/tysam-code/hlb-CIFAR10 (2022), after D. Page, "How to train your ResNet 8"
    (2019); eps as in K. Jordan, arXiv:2404.00498.
    """

    def __init__(self, channels: int = 3, size: int = 2, eps: float = 5e-4, bias: bool = True) -> None:
        super().__init__(channels, 2 * channels * size**2, size, bias=bias)
        self.eps = eps
        self.weight.requires_grad_(False)

    @torch.no_grad()
    def fit(self, blocks: Iterable[Tensor]) -> None:
        """Computes the filters.

        Args:
            blocks: float (N, channels, H, W), normalised: some thousand training images, in blocks, since the patches
                of all at once would take 12 times their memory.
        """
        size = self.kernel_size[0]
        covariance = torch.zeros(self.in_channels * size**2, self.in_channels * size**2, device=self.weight.device)
        count = 0
        for block in blocks:
            patches = F.unfold(block.float(), size).transpose(1, 2).flatten(0, 1)  # (N * places, channels * size**2)
            covariance += patches.T @ patches
            count += len(patches)
        variances, directions = torch.linalg.eigh(covariance / count)  # directions in columns
        filters = (directions / (variances + self.eps).sqrt()).T.reshape(-1, *self.weight.shape[1:])
        self.weight.copy_(torch.cat([filters, -filters]))


def fit_whitening(net: nn.Module, blocks: Sequence[Tensor]) -> None:
    """Fits every WhiteningConv of a network to blocks of images, float (N, C, H, W), normalised as its input is."""
    for layer in whitening_layers(net):
        layer.fit(blocks)


def whitening_layers(net: nn.Module) -> list[WhiteningConv]:
    """The layers of a network that have to be fitted to the data."""
    return [module for module in net.modules() if isinstance(module, WhiteningConv)]
