"""Rank misclassified images, and keep the top ones batch by batch."""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from cifar_lit.randomness import hash_uniform, key

Order = Literal["confidence", "random", "loss"]


def rank_mistakes(scores: Tensor, wrong: Tensor, indices: Tensor | None = None) -> Tensor:
    """Return the order in which to show images, int64 (N,): mistakes first, the highest score first.

    Correct images follow, the lowest score first. Images with equal scores are in the order of their index.

    Args:
        scores: float (N,), such as confidences.
        wrong: bool (N,), whether each image is misclassified.
        indices: int64 (N,), of the images in the dataset; by default their positions.

    >>> rank_mistakes(torch.tensor([0.9, 0.5, 0.8, 0.6]), torch.tensor([False, True, True, False])).tolist()
    [2, 1, 3, 0]
    """
    order = torch.arange(len(scores), device=scores.device) if indices is None else indices.argsort()
    order = order[torch.where(wrong, scores, -scores)[order].argsort(descending=True, stable=True)]
    return order[(~wrong[order]).byte().argsort(stable=True)]


class Mistakes(NamedTuple):
    """Misclassified images, in the order in which to show them.

    pixels: uint8 (K, 3, H, W).
    labels, predictions: int64 (K,), the true and the predicted class.
    logits: float32 (K, C).
    confidences, losses: float32 (K,), the predicted class's probability, and the cross-entropy.
    indices: int64 (K,), rows of the dataset.
    errors, images: Number of misclassified and of evaluated images in all, after filtering.
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
    """Keep the top ``count`` mistakes, in memory independent of the number of images.

    Args:
        count: Number of mistakes to keep.
        order: ``confidence``: the most confident first; ``random``: a random choice that depends on the seed and the
            images only; ``loss``: the lowest loss first, that is, near misses.
        seed: Seed of the random order.
        true_class: Keep only mistakes on images of this class.
        predicted_class: Keep only mistakes with this predicted class.
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
        """Add a batch, without synchronizing with the device.

        Args:
            pixels: uint8 (N, 3, H, W).
            logits: float (N, C).
            labels: int64 (N,).
            indices: int64 (N,), unique in the dataset.
        """
        log_probs = logits.float().log_softmax(1)
        log_confidences, predictions = log_probs.max(1)
        losses = -log_probs.gather(1, labels[:, None])[:, 0]
        counted = torch.ones_like(labels, dtype=torch.bool)
        if self.true_class is not None:
            counted &= labels == self.true_class
        wrong = counted & (predictions != labels)
        if self.predicted_class is not None:
            wrong &= predictions == self.predicted_class
        if self.order == "random":
            scores = hash_uniform(indices, key("mistakes", self.seed))
        else:
            scores = log_confidences if self.order == "confidence" else -losses
        batch = {
            "scores": torch.where(wrong, scores.nan_to_num(nan=torch.inf), -torch.inf),
            "indices": indices,
            "pixels": pixels,
            "labels": labels,
            "predictions": predictions,
            "logits": logits.float(),
            "confidences": log_confidences.exp(),
            "losses": losses,
        }
        if not self._kept:
            self._kept = {name: values.new_zeros(self.count, *values.shape[1:]) for name, values in batch.items()}
            self._kept["scores"].fill_(-torch.inf)
            self._kept["totals"] = torch.zeros(2, dtype=torch.int64, device=labels.device)
        top = _top(batch, self.count)  # before joining: copying the pixels of the full batch would take longer
        joined = {name: torch.cat([self._kept[name], values]) for name, values in top.items()}
        totals = self._kept["totals"] + torch.stack([wrong.sum(), counted.sum()])
        self._kept = _top(joined, self.count) | {"totals": totals}

    def gather(self, all_gather: Any) -> Mistakes:
        """Return the mistakes of all processes, each of which must call this.

        Args:
            all_gather: Lightning's, which adds a dimension to tensors if there are several processes.
        """
        kept = {name: all_gather(values) for name, values in self._kept.items()}
        if kept["totals"].ndim == 2:
            kept = {name: values.flatten(0, 1) for name, values in kept.items()}
        errors, images = kept.pop("totals").view(-1, 2).sum(0).tolist()
        kept = _top(kept, self.count)
        found = int((kept.pop("scores") > -torch.inf).sum())
        fields = {name: values[:found].cpu() for name, values in kept.items()}
        return Mistakes(**fields, errors=errors, images=images)


def _top(values: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """Return the values of the first ``count`` images; the scores of correct images are -inf."""
    scores = values["scores"]
    first = rank_mistakes(scores, scores > -torch.inf, values["indices"])[:count]
    return {name: tensor[first] for name, tensor in values.items()}
