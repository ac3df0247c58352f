"""Table of the network's layers in TensorBoard's text tab."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.model_summary import ModelSummary

from callbacks.rendering.markdown import table
from callbacks.tensorboard import warn_on_error, writer_unless_resumed
from cifar_lit.tensorboard_tags import DATA


class ModelSummaryText(Callback):
    """Write a table of the layers: name, type, number of parameters, input and output shape.

    Args:
        max_depth: Maximum depth of nested layers; -1 shows all.
    """

    def __init__(self, max_depth: int = 4) -> None:
        self.max_depth = max_depth

    @warn_on_error("ModelSummaryText")
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table once, from one run of the module's ``example_input_array``; print the parameters' number."""
        summary = ModelSummary(pl_module, max_depth=self.max_depth)
        total, trained = summary.total_parameters, summary.trainable_parameters
        parameters = f"{total:,} parameters, {'all' if trained == total else f'{trained:,} of them'} trainable"
        rank_zero_info(f"Network: {type(pl_module.net).__name__}, {parameters}")
        writer = writer_unless_resumed(trainer)
        if writer is not None:
            counts = [f"{count:,}" for count in summary.param_nums]
            columns = summary.layer_names, summary.layer_types, counts, summary.in_sizes, summary.out_sizes
            rows = [list(map(str, row)) for row in zip(*columns, strict=True)]
            layers = table(["layer", "type", "parameters", "input shape", "output shape"], rows, raw=True)
            writer.add_text(f"{DATA}/network", f"{layers}\n\n**{parameters}**", trainer.global_step)
