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
        """Write the table once; print the number of parameters."""
        trained = sum(weight.numel() for weight in pl_module.net.parameters() if weight.requires_grad)
        total = sum(weight.numel() for weight in pl_module.net.parameters())
        rank_zero_info(f"Network: {type(pl_module.net).__name__}, {_parameters(total, trained)}")
        writer = writer_unless_resumed(trainer)
        if writer is not None:
            writer.add_text(f"{DATA}/network", summary_table(pl_module, self.max_depth), trainer.global_step)


def summary_table(pl_module: LightningModule, max_depth: int) -> str:
    """Return the table in Markdown, followed by the total number of parameters.

    Args:
        pl_module: A module with an ``example_input_array``, which is run once.
        max_depth: Maximum depth of nested layers; -1 shows all.
    """
    summary = ModelSummary(pl_module, max_depth=max_depth)
    columns = [
        ("layer", summary.layer_names),
        ("type", summary.layer_types),
        ("parameters", [f"{count:,}" for count in summary.param_nums]),
        ("input shape", summary.in_sizes),
        ("output shape", summary.out_sizes),
    ]
    header = [name for name, _ in columns]
    rows = [list(map(str, row)) for row in zip(*(cells for _, cells in columns), strict=True)]
    total = _parameters(summary.total_parameters, summary.trainable_parameters)
    return table(header, rows, raw=True) + f"\n\n**{total}**"


def _parameters(total: int, trained: int) -> str:
    return f"{total:,} parameters, {'all' if trained == total else f'{trained:,} of them'} trainable"
