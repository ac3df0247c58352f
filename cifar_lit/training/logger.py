"""TensorBoard logger with training and validation in one chart."""

from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from cifar_lit.training.lightning_compat import flatten_hyperparameters

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

SPLITS = ("train", "val", "test")


class RunLogger(TensorBoardLogger):
    """Log a run to ``save_dir/name/version``, with one chart per metric for training and validation.

    A metric named ``val/loss`` is logged as ``loss`` in the sub-run ``val``: TensorBoard draws metrics of the same name
    in one chart, with a line per sub-run.

    Args:
        save_dir: Folder of all runs.
        name: Folder of the runs of one configuration; by default, the name of its file.
        version: Folder of this run; by default ``version_0``, ``version_1``, and so on.
        purge_step: First step to be logged again after a resume; TensorBoard drops earlier events from this step on.
    """

    def __init__(
        self,
        save_dir: str = "runs",
        name: str | None = None,
        version: int | str | None = None,
        purge_step: int | None = None,
    ) -> None:
        super().__init__(save_dir, name or "run", version, default_hp_metric=False, purge_step=purge_step)
        self._writers: dict[str, SummaryWriter] = {}
        self.purge_step = purge_step
        self._warned = False

    @contextmanager
    def _warn_on_write_error(self) -> Iterator[None]:
        """Warn once about events that cannot be written, for example to a full disk; later events go to a new file."""
        try:
            yield
        except OSError as error:
            if not self._warned:
                rank_zero_warn(f"{self.log_dir}: curves and pictures cannot be written ({error.strerror or error})")
            self._warned = True
            self._experiment, self._writers = None, {}  # a writer that failed once stays silent

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log each metric to the sub-run in its name's prefix, or else to the run itself."""
        by_split: dict[str, dict[str, float]] = defaultdict(dict)
        if step is not None and all(name.startswith("lr-") for name in metrics):
            step += 1  # LearningRateMonitor counts completed steps, all other curves include the current one
        for name, value in metrics.items():
            split, slash, rest = name.partition("/")
            if slash and split in SPLITS:
                by_split[split][rest] = value
            else:
                by_split[""][name] = value
        with self._warn_on_write_error():
            for split, values in by_split.items():
                writer = self.split_experiment(split) if split else self.experiment
                for name, value in values.items():
                    writer.add_scalar(name, value, None if step is None else int(step))

    def split_experiment(self, split: str) -> "SummaryWriter":
        """Return the writer of a sub-run (``train``, ``val`` or ``test``), on rank 0."""
        if split not in self._writers:
            from torch.utils.tensorboard import SummaryWriter

            self._writers[split] = SummaryWriter(str(Path(self.log_dir) / split), purge_step=self.purge_step)
        return self._writers[split]

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, metrics: dict[str, Any] | None = None, step: int | None = None
    ) -> None:
        """Log the hyperparameters, with the newest validation metrics as their result."""
        if self.purge_step is not None:
            return  # logged before the resume
        with self._warn_on_write_error():
            super().log_hyperparams(params)
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
        from torch.utils.tensorboard.summary import hparams

        readable = readable_hyperparameters(flatten_hyperparameters(params))
        experiment, session_start, _ = hparams(readable, {"accuracy": 0.0, "loss": 0.0})
        plugin_data = experiment.value[0].metadata.plugin_data
        content = HParamsPluginData.FromString(plugin_data.content)
        for metric in content.experiment.metric_infos:
            metric.name.group = "val"  # the metric's sub-run, which torch's function cannot set
        plugin_data.content = content.SerializeToString()
        with self._warn_on_write_error():
            for part in (experiment, session_start):
                self.experiment.file_writer.add_summary(part)

    @rank_zero_only
    def flush(self) -> None:
        """Flush buffered events, so that they survive the process."""
        with self._warn_on_write_error():
            for writer in (self.experiment, *self._writers.values()):
                writer.flush()

    @rank_zero_only
    def save(self) -> None:
        """Write buffered events."""
        with self._warn_on_write_error():
            super().save()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write buffered events."""
        with self._warn_on_write_error():
            super().finalize(status)
            for writer in self._writers.values():
                writer.flush()
                writer.close()


def readable_hyperparameters(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters chosen by the user, under short names.

    >>> readable_hyperparameters({"batch_size": 64, "net/class_path": "a.b.ResNet9", "net/init_args/width": 16,
    ...     "compile": "None"})
    {'batch_size': 64, 'net': 'ResNet9', 'net.width': 16}
    """
    readable = {}
    for name, value in flat.items():
        if name.startswith(_NOT_CHOSEN) or value in (None, "None", "[]"):
            continue
        if name.endswith("class_path"):
            value = value.rpartition(".")[2]
        readable[name.removesuffix("/class_path").replace("/init_args/", ".").replace("/", ".")] = value
    return readable


_NOT_CHOSEN = ("_instantiator", "class_names", "image_size", "mean", "num_classes", "std")  # set from the data
