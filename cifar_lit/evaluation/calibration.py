"""Temperature scaling: the loss and the calibration error at many temperatures."""

import torch
from torch import Tensor
from torchmetrics import Metric

from cifar_lit.evaluation.result import Calibration as Calibration

# Candidate temperatures: 4.4 % apart, 1 among them
TEMPERATURES = tuple(8 ** (index / 48) for index in range(-48, 49))
_BINS = 15  # of the confidence, equally wide
_MAX_ELEMENTS = 4_000_000  # of an intermediate tensor


class TemperatureSweep(Metric):
    """The loss and the calibration at each of many temperatures, from running sums.

    The calibration error equals that of torchmetrics' MulticlassCalibrationError, which stores all confidences; the
    state here has a fixed size. A confidence of exactly 1 counts in the last bin, as in the paper, not in its own.
    """

    full_state_update = False
    temperatures: Tensor
    losses: Tensor
    counts: Tensor
    confidences: Tensor
    correct: Tensor

    def __init__(self) -> None:
        super().__init__()
        shape = (len(TEMPERATURES), _BINS)
        self.register_buffer("temperatures", torch.tensor(TEMPERATURES))
        self.add_state("losses", torch.zeros(len(TEMPERATURES), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("counts", "confidences", "correct"):  # float64: sums of millions of small numbers
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits float (N, C), labels int64 (N,)."""
        logits = logits.float()
        chunks = self.temperatures.split(max(1, _MAX_ELEMENTS // logits.numel()))
        log_sums = torch.cat([(logits / chunk[:, None, None]).logsumexp(2) for chunk in chunks])  # (T, N)
        label_logits = logits.gather(1, labels[:, None])[:, 0] / self.temperatures[:, None]
        self.losses += (log_sums - label_logits).sum(1)
        highest, predicted = logits.max(1)
        confidence = (highest / self.temperatures[:, None] - log_sums).exp()  # (T, N)
        bins = self.counts.shape[1]
        bin_index = (confidence * bins).long().clamp(0, bins - 1)
        correct = (predicted == labels).double().expand_as(confidence)
        self.counts.scatter_add_(1, bin_index, torch.ones_like(correct))
        self.confidences.scatter_add_(1, bin_index, confidence.double())
        self.correct.scatter_add_(1, bin_index, correct)

    @property
    def best_temperature(self) -> float:
        """The temperature with the lowest loss, over all processes."""
        losses, _ = self.compute()
        return TEMPERATURES[int(losses.argmin())]

    def calibration_at(self, temperature: float) -> Calibration:
        """Return the calibration at the candidate closest to a temperature, over all processes."""
        _, calibrations = self.compute()
        nearest = min(range(len(TEMPERATURES)), key=lambda index: abs(TEMPERATURES[index] - temperature))
        return calibrations[nearest]

    def compute(self) -> tuple[Tensor, list[Calibration]]:
        """Return the mean loss (T,) and the calibration at each temperature."""
        counts = self.counts.clamp(min=1)
        images = self.counts.sum(1, keepdim=True)
        columns = zip(self.confidences / counts, self.correct / counts, self.counts / images, strict=True)
        return self.losses / images[:, 0], [Calibration(*column) for column in columns]
