"""Reliability diagrams, before and after temperature scaling."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from callbacks.evaluation_callback import Evaluation, EvaluationCallback
from callbacks.rendering.charts import reliability_diagram
from cifar_lit.evaluation.calibration import Calibration


class CalibrationPlot(EvaluationCallback):
    """Show accuracy against confidence, before and after temperature scaling.

    The temperature is the classifier's own: every validation chooses the one with the lowest loss, whether or not this
    callback is there. The expected calibration error (ECE) is logged as a curve.

    Args:
        every_n_epochs: Show it after every so many epochs of ``fit``, and after the last. 0 switches it off.
        png: Also save each picture as a PNG file next to the event file.

    Source: Guo et al. 2017, arXiv:1706.04599, sections 2 and 4.2.
    """

    def __init__(self, every_n_epochs: int = 1, png: bool = False) -> None:
        super().__init__(every_n_epochs, png)

    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember whether this evaluation chooses the temperature."""
        self._chooses_temperature = not trainer.testing

    def watch(self, pl_module: LightningModule, outputs: dict[str, Any], batch: Any) -> None:
        """Do nothing: the classifier updates its calibration itself."""

    def merge(self, pl_module: LightningModule) -> tuple[float, Calibration, Calibration]:
        """Return the temperature, and the calibration without and with it, over all processes."""
        sweep = pl_module.calibration
        temperature = sweep.best_temperature if self._chooses_temperature else pl_module.temperature
        return temperature, sweep.calibration_at(1.0), sweep.calibration_at(temperature)

    def write(self, merged: tuple[float, Calibration, Calibration], evaluation: Evaluation) -> None:
        """Write the diagram and the curves."""
        temperature, plain, scaled = merged
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
