"""Reliability diagrams, before and after temperature scaling."""

from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer

from callbacks.evaluation_callback import EvaluatedModule, EvaluationCallback, EvaluationWriter
from callbacks.rendering.charts import calibration_diagrams
from cifar_lit.evaluation.calibration import Calibration
from cifar_lit.tensorboard_tags import RESULTS


class CalibrationPlot(EvaluationCallback):
    """Show accuracy against confidence, before and after temperature scaling.

    The classifier itself chooses the temperature with the lowest loss in each validation, whether or not this
    callback is used. The expected calibration error (ECE) is logged as a curve.

    Args:
        every_n_epochs: Plot every n epochs of ``fit`` and after the last one; 0 disables it.
        png: Also save each picture as a PNG file next to the event file.

    Source: Guo et al. 2017, arXiv:1706.04599, sections 2 and 4.2.
    """

    def reset(self, trainer: Trainer, pl_module: EvaluatedModule) -> None:
        """Remember whether this evaluation chooses the temperature."""
        self._chooses_temperature = not trainer.testing

    def update(self, pl_module: EvaluatedModule, outputs: dict[str, Any], batch: Any) -> None:
        """Do nothing; the classifier collects the statistics."""

    def compute(self, pl_module: EvaluatedModule) -> tuple[float, Calibration, Calibration]:
        """Return the temperature, and the calibration without and with it, over all processes."""
        sweep = pl_module.calibration
        temperature = sweep.best_temperature if self._chooses_temperature else pl_module.temperature
        return temperature, sweep.calibration_at(1.0), sweep.calibration_at(temperature)

    def write(self, results: tuple[float, Calibration, Calibration], writer: EvaluationWriter) -> None:
        """Write the diagrams and the curves."""
        temperature, plain, scaled = results
        bins: np.ndarray = torch.stack([torch.stack(plain), torch.stack(scaled)]).cpu().numpy()
        diagrams = calibration_diagrams(bins, (plain.error, scaled.error), temperature, writer.subtitle)
        for name, picture in zip(("as trained", "with temperature scaling"), diagrams, strict=True):
            writer.add_image(RESULTS, f"calibration {name}", picture)
        values = {"ece": plain.error, "ece_scaled": scaled.error, "temperature": temperature}
        writer.add_scalars({f"temperature_scaling/{name}": value for name, value in values.items()})
