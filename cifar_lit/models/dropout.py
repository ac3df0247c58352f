"""Dropout that does not wait for its random numbers."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifar_lit.errors import InputError


class Dropout(nn.Module):
    """Sets activations to zero at random while training, and scales the others so that the mean stays.

    torch's own throws a coin for each activation, one after another on a CPU: a sixth of a step of S4's ResNet-9. Here
    each takes one of the eight bytes of a random number, which makes 256 steps of the probability.

    Args:
        p: Probability of dropping an activation; on a CPU, unless compiled, rounded to a multiple of 1/256, of at least
            1/256.

    Source: Srivastava et al. 2014, JMLR 15, p. 1929.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise InputError(f"dropout must be at least 0 and below 1, got {p}")
        self.p = p

    def forward(self, features: Tensor) -> Tensor:
        """Activations of the same shape."""
        if not self.training or self.p == 0 or not features.numel():
            return features
        if features.device.type != "cpu" or torch.compiler.is_compiling():  # where all coins are thrown at once
            return F.dropout(features, self.p)
        dropped = min(max(round(256 * self.p), 1), 255)
        # numpy's generator is twice as fast as torch's, which seeds it, so that a run's seed decides it as well
        numbers = np.random.SFC64(int(torch.randint(2**62, (), device="cpu"))).random_raw(-(-features.numel() // 8))
        bytes_ = torch.from_numpy(numbers).view(torch.uint8)[: features.numel()]
        # In place, which gives bytes of 0 and 1, quicker to compare and to convert than bool; in the order in which the
        # activations lie in memory, which need not be that of their dimensions
        kept = bytes_.ge_(dropped).as_strided(features.shape, torch.empty_like(features, device="meta").stride())
        return features * kept.to(features.dtype).mul_(256 / (256 - dropped))
