"""The mistakes of an evaluation that are worth a look, kept while the batches go by."""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

Order = Literal["confidence", "random", "loss"]


class Mistakes(NamedTuple):
    """Misclassified images, the first to be shown first.

    pixels: uint8 (K, 3, H, W).
    labels, predictions: int64 (K,), the true and the predicted class.
    logits: float32 (K, C).
    confidences, losses: float32 (K,), the predicted class's probability, and the cross-entropy.
    indices: int64 (K,), rows of the data set.
    errors, images: How many images were misclassified, and judged, in all; after filtering.
    """

    pixels: Tensor
    labels: Tensor
    predictions: Tensor
    logits: Tensor
    confidences: Tensor
    losses: Tensor
    indices: Tensor
    errors: int
    images: int


class TopKMistakes:
    """Keeps the first ``count`` mistakes in the chosen order, however many images go by.

    Args:
        count: How many to keep.
        order: ``confidence``: the most confidently wrong first; ``random``: at random, but the same ones of the same
            mistakes with the same seed; ``loss``: the least loss first, that is, the near misses.
        seed: For the random order.
        true_class: Keep only mistakes with images of that class.
        predicted_class: Keep only images that were taken for that class.
    """

    def __init__(
        self,
        count: int,
        order: Order = "confidence",
        seed: int = 0,
        true_class: int | None = None,
        predicted_class: int | None = None,
    ) -> None:
        self.count, self.order, self.seed = count, order, seed
        self.true_class, self.predicted_class = true_class, predicted_class
        self._kept: dict[str, Tensor] = {}

    def update(self, pixels: Tensor, logits: Tensor, labels: Tensor, indices: Tensor) -> None:
        """Adds a batch, without waiting for the device.

        Args:
            pixels: uint8 (N, 3, H, W).
            logits: float (N, C).
            labels: int64 (N,).
            indices: int64 (N,), unique in the data set.
        """
        log_shares = logits.float().log_softmax(1)
        best, predictions = log_shares.max(1)
        losses = -log_shares.gather(1, labels[:, None])[:, 0]
        counted = torch.ones_like(labels, dtype=torch.bool)
        if self.true_class is not None:
            counted &= labels == self.true_class
        wrong = counted & (predictions != labels)
        if self.predicted_class is not None:
            wrong &= predictions == self.predicted_class
        score = (
            self.random_scores(indices) if self.order == "random" else {"confidence": best, "loss": -losses}[self.order]
        )
        batch = {
            "scores": torch.where(wrong, score.nan_to_num(nan=torch.inf), -torch.inf),
            "indices": indices,
            "pixels": pixels,
            "labels": labels,
            "predictions": predictions,
            "logits": logits.float(),
            "confidences": best.exp(),
            "losses": losses,
        }
        if not self._kept:
            self._kept = {name: self._empty(values) for name, values in batch.items()}
            self._kept["scores"].fill_(-torch.inf)
            self._kept["totals"] = torch.zeros(2, dtype=torch.int64, device=labels.device)
        chosen = _firsts(batch, self.count)  # first, since to copy the pixels of a whole batch would take longer
        joined = {name: torch.cat([self._kept[name], values]) for name, values in chosen.items()}
        totals = self._kept["totals"] + torch.stack([wrong.sum(), counted.sum()])
        self._kept = _firsts(joined, self.count) | {"totals": totals}

    def gathered(self, all_gather: Any) -> Mistakes:
        """The mistakes of all processes, each of which must call this.

        Args:
            all_gather: Lightning's, which gives tensors one more dimension where there are several processes.
        """
        whole = {name: all_gather(values) for name, values in self._kept.items()}
        if whole["totals"].ndim == 2:
            whole = {name: values.flatten(0, 1) for name, values in whole.items()}
        errors, images = whole.pop("totals").view(-1, 2).sum(0).tolist()
        whole = _firsts(whole, self.count)
        found = int((whole.pop("scores") > -torch.inf).sum())
        fields = {name: values[:found].cpu() for name, values in whole.items()}
        return Mistakes(**fields, errors=errors, images=images)

    def _empty(self, values: Tensor) -> Tensor:
        return values.new_zeros(self.count, *values.shape[1:])

    def random_scores(self, indices: Tensor) -> Tensor:
        """Random numbers float32 (N,) in [0, 1) that depend on (seed, index) alone, not on batch or process.

        Source: the finalizer of SplitMix64, Steele et al. 2014, doi:10.1145/2660193.2660195.
        """
        bits = indices + (self.seed + 1) * 0x1E3779B97F4A7C15 % 2**62
        for shift, factor in ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64)):
            bits = (bits ^ (bits >> shift & (1 << 64 - shift) - 1)) * factor
        return (bits >> 40 & (1 << 24) - 1).float() / (1 << 24)


def _first(scores: Tensor, indices: Tensor, count: int) -> Tensor:
    """The places of the highest scores, the highest first; of equal ones, the lower index first."""
    by_index = indices.argsort()
    return by_index[scores[by_index].argsort(descending=True, stable=True)][:count]


def _firsts(values: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    places = _first(values["scores"], values["indices"], count)
    return {name: part[places] for name, part in values.items()}
