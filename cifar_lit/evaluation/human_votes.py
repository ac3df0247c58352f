"""Compare predictions with the votes of several people on each image."""

from typing import NamedTuple

import torch
from torch import Tensor

MIN_AGREEMENT = 0.75  # share of the votes for one class, below which people disagree


class VoteComparison(NamedTuple):
    """Predictions of N images, compared with people's votes.

    agreement: float (N,), share of the votes for the class with the most.
    is_chosen: bool (N,), whether no class got more votes than the predicted one.
    support: float (N,), share of the votes for the predicted class.
    cross_entropy: float (N,), of the predicted probabilities against the shares of the votes, in nats.
    entropy: float (N,), of the shares of the votes: the lowest possible cross-entropy.
    """

    agreement: Tensor
    is_chosen: Tensor
    support: Tensor
    cross_entropy: Tensor
    entropy: Tensor

    @property
    def is_disputed(self) -> Tensor:
        """bool (N,), whether people disagree."""
        return self.agreement < MIN_AGREEMENT


def compare_with_votes(logits: Tensor, counts: Tensor) -> VoteComparison:
    """Compare predictions with votes.

    Args:
        logits: float (N, C), calibrated.
        counts: Number of votes float (N, C), at least one for each image.

    Source: Peterson et al. 2019, arXiv:1908.07086, section 4.

    >>> comparison = compare_with_votes(torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 1.0]]))
    >>> comparison.agreement, comparison.is_chosen, comparison.is_disputed
    (tensor([0.7500]), tensor([True]), tensor([False]))
    """
    shares, log_probs = counts.double() / counts.sum(1, keepdim=True), logits.double().log_softmax(1)
    predicted = logits.argmax(1, keepdim=True)
    agreement, support = shares.amax(1), shares.gather(1, predicted)[:, 0]
    return VoteComparison(
        agreement.float(),
        support == agreement,
        support.float(),
        -(shares * log_probs).sum(1).float(),
        torch.special.entr(shares).sum(1).float(),
    )
