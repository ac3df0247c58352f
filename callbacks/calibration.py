"""How far the network's confidence can be trusted, and the temperature that makes it more so."""

from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torchmetrics import Metric

from callbacks.evaluation import Evaluation, EvaluationCallback
from callbacks.rendering.charts import reliability_diagram

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


class CalibrationByTemperature(Metric):
    """Sums that give the loss and the calibration at each of many temperatures.

    The error is that of torchmetrics' MulticlassCalibrationError, which keeps every confidence; these are sums, of a
    size that the number of images does not change. (A confidence of exactly 1 is in the last bin, as in the paper, not
    in one of its own.)

    Args:
        bins: Equal bins of confidence.
    """

    full_state_update = False
    losses: Tensor
    counts: Tensor
    confidences: Tensor
    correct: Tensor

    def __init__(self, bins: int) -> None:
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

    def compute(self) -> tuple[Tensor, list[Calibration]]:
        """The mean loss at each temperature (T,), and the calibration at each."""
        counts = self.counts.clamp(min=1)
        images = self.counts.sum(1, keepdim=True)
        parts = zip(self.confidences / counts, self.correct / counts, self.counts / images, strict=True)
        return self.losses / images[:, 0], [Calibration(*part) for part in parts]


class CalibrationPlot(EvaluationCallback):
    """Shows how often the network is right against how sure it is, before and after temperature scaling.

    Every validation chooses the temperature with the lowest loss, which is kept in the checkpoint; ``test`` uses that.
    The expected calibration error is a curve as well.

    Args:
        bins: Equal bins of confidence.
        every_n_epochs: Show it after every so many epochs of ``fit``, and after its last. 0 switches it off.
        png: Also save each picture as a PNG file beside the event file.

    Source: Guo et al. 2017, arXiv:1706.04599, sections 2 and 4.2.
    """

    merges_always = True  # since a checkpoint may be saved after any epoch

    def __init__(self, bins: int = 15, every_n_epochs: int = 1, png: bool = False) -> None:
        super().__init__(every_n_epochs, png)
        if bins < 1:
            raise MisconfigurationException(f"CalibrationPlot: bins must be at least 1, got {bins}")
        self._metric = CalibrationByTemperature(bins)

    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets the evaluation before."""
        self._chooses = not trainer.testing
        has_float64 = pl_module.device.type != "mps"
        self._metric.to(pl_module.device if has_float64 else "cpu").reset()

    def watch(self, pl_module: LightningModule, outputs: dict[str, Any], batch: Any) -> None:
        """Adds a batch."""
        self._metric.update(outputs["logits"].to(self._metric.device), outputs["labels"].to(self._metric.device))

    def merge(self, pl_module: LightningModule) -> tuple[Calibration, Calibration]:
        """The calibration at temperature 1 and at the model's, which validation chooses here, in every process."""
        losses, calibrations = self._metric.compute()
        if self._chooses:
            pl_module.temperature = TEMPERATURES[int(losses.argmin())]
        nearest = min(range(len(TEMPERATURES)), key=lambda place: abs(TEMPERATURES[place] - pl_module.temperature))
        return calibrations[TEMPERATURES.index(1.0)], calibrations[nearest]

    def write(self, merged: tuple[Calibration, Calibration], evaluation: Evaluation) -> None:
        """Writes the diagram and the curves."""
        plain, scaled = merged
        temperature = evaluation.pl_module.temperature
        titles = [f"as trained: ECE {plain.error:.2%}", f"temperature {temperature:.2f}: ECE {scaled.error:.2%}"]
        confidence, accuracy, share = (torch.stack(pair).cpu().numpy() for pair in zip(plain, scaled, strict=True))
        picture = reliability_diagram(
            confidence, accuracy, share, titles, f"Calibration (ECE: mean gap) · {evaluation.when}"
        )
        evaluation.add_image("calibration", picture)
        evaluation.add_scalars(
            {
                "calibration_error": plain.error,
                "calibration_error_scaled": scaled.error,
                "temperature": temperature,
            }
        )
