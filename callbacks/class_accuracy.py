"""Accuracy of each class over the epochs."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from callbacks.evaluation_callback import EvaluatedModule, EvaluationWriter, MetricCallback
from callbacks.rendering.charts import COLORS, curves_chart
from cifar_lit.tensorboard_tags import RESULTS


class ClassAccuracy(MetricCallback):
    """Show the accuracy of each class after each validation of ``fit``, as curves and as one chart.

    The chart shows the classes with the lowest accuracy if there are more than ten.

    Args:
        every_n_epochs: Show it every n epochs of ``fit`` and after the last one; 0 disables it.
        png: Also save each picture as a PNG file next to the event file.
    """

    def __init__(self, every_n_epochs: int = 1, png: bool = False) -> None:
        super().__init__(every_n_epochs, png)
        self._history: list[tuple[float, list[float]]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the curves so far."""
        return {"history": self._history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the curves."""
        self._history = list(state_dict["history"])

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Create the metric."""
        self.metric = MulticlassAccuracy(len(pl_module.class_names), average=None, validate_args=False)

    def reset(self, trainer: Trainer, pl_module: EvaluatedModule) -> None:
        """Reset the metric, and skip other commands than ``fit``."""
        super().reset(trainer, pl_module)
        self._active = trainer.state.fn == "fit"

    def write(self, results: Tensor, writer: EvaluationWriter) -> None:
        """Log the accuracies (C,), and draw them."""
        names = writer.pl_module.class_names
        writer.add_scalars({f"per_class/{name}": value for name, value in zip(names, results.tolist(), strict=True)})
        self._history.append((float(writer.step), results.tolist()))
        lowest = sorted(results.argsort()[: len(COLORS)].tolist())
        curves = {names[label]: [(step, values[label]) for step, values in self._history] for label in lowest}
        title = "accuracy of each class" if len(names) <= len(COLORS) else f"the {len(COLORS)} lowest accuracies"
        writer.add_image(RESULTS, "accuracy of each class", curves_chart(title, curves))
