"""Calibration of confidences, and the temperature that improves it."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

# Temperatures to choose from: 4.4 % apart, 1 among them
TEMPERATURES = tuple(8 ** (place / 48) for place in range(-48, 49))
_LARGEST = 4_000_000  # numbers in an intermediate result


class Calibration(NamedTuple):
    """How the confidence compares with the accuracy, at one temperature.

    confidence, accuracy: float64 (B,), means over the images in each bin of confidence.
    share: float64 (B,), of all images.
    """

    confidence: Tensor
    accuracy: Tensor
    share: Tensor

    @property
    def error(self) -> float:
        """The expected calibration error (ECE), Guo et al. 2017, arXiv:1706.04599, eq. 3."""
        return float((self.share * (self.accuracy - self.confidence).abs()).sum())


class TemperatureSweep(Metric):
    """Sums that give the loss and the calibration at each of many temperatures.

    The error is that of torchmetrics' MulticlassCalibrationError, which keeps every confidence; these are sums, of a
    size that the number of images does not change. (A confidence of exactly 1 is in the last bin, as in the paper, not
    in one of its own.)

    Args:
        bins: Equal bins of confidence.
    """

    full_state_update = False
    temperatures: Tensor
    losses: Tensor
    counts: Tensor
    confidences: Tensor
    correct: Tensor

    def __init__(self, bins: int = 15) -> None:
        super().__init__()
        shape = (len(TEMPERATURES), bins)
        self.register_buffer("temperatures", torch.tensor(TEMPERATURES))
        self.add_state("losses", torch.zeros(len(TEMPERATURES), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("counts", "confidences", "correct"):  # in float64, since millions of small numbers are added
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch: logits float (N, C), labels int64 (N,)."""
        logits = logits.float()
        rows = max(1, _LARGEST // logits.numel())  # of temperatures at a time
        parts = self.temperatures.split(rows)
        log_sums = torch.cat([(logits / part[:, None, None]).logsumexp(2) for part in parts])  # (T, N)
        own = logits.gather(1, labels[:, None])[:, 0] / self.temperatures[:, None]
        self.losses += (log_sums - own).sum(1)
        highest, predictions = logits.max(1)
        confidence = (highest / self.temperatures[:, None] - log_sums).exp()  # (T, N)
        bins = self.counts.shape[1]
        bin_ = (confidence * bins).long().clamp(0, bins - 1)
        right = (predictions == labels).double().expand_as(confidence)
        for sums, values in (
            (self.counts, torch.ones_like(right)),
            (self.confidences, confidence.double()),
            (self.correct, right),
        ):
            sums.scatter_add_(1, bin_, values)

    @property
    def best_temperature(self) -> float:
        """The temperature with the lowest loss, over all processes."""
        losses, _ = self.compute()
        return TEMPERATURES[int(losses.argmin())]

    def calibration_at(self, temperature: float) -> Calibration:
        """Return the calibration at the temperature of the sweep that is closest, over all processes."""
        _, calibrations = self.compute()
        nearest = min(range(len(TEMPERATURES)), key=lambda index: abs(TEMPERATURES[index] - temperature))
        return calibrations[nearest]

    def compute(self) -> tuple[Tensor, list[Calibration]]:
        """The mean loss at each temperature (T,), and the calibration at each."""
        counts = self.counts.clamp(min=1)
        images = self.counts.sum(1, keepdim=True)
        parts = zip(self.confidences / counts, self.correct / counts, self.counts / images, strict=True)
        return self.losses / images[:, 0], [Calibration(*part) for part in parts]
