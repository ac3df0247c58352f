"""TensorBoard logger that writes a run as one row, with its splits side by side."""

from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from cifar_lit.tensorboard_tags import FIRST_CURVES, RESULTS, curve_tag
from cifar_lit.training.checkpointing.checkpoint_files import SET_FROM_DATA
from cifar_lit.training.lightning_compat import flatten_hyperparameters


class RunLogger(TensorBoardLogger):
    """Log a run to ``save_dir/name/version``, with the curves of training and validation side by side.

    A metric named ``val/loss`` is logged as ``0_curves/loss/val``, since TensorBoard groups and sorts tags by their
    beginning. Custom Scalars shows both curves in one chart. The metrics of ``test``, single numbers, become a table.

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
        name = name or "run"
        folder = Path(save_dir, name, version if isinstance(version, str) else f"version_{version}")
        is_new = version is None or not any(folder.glob("events*"))
        super().__init__(save_dir, name, version, default_hp_metric=False)
        self.purge_step = purge_step
        # Readers keep everything before the first start that is logged: that must not be the one of a resume
        self._start_step = 0 if is_new and purge_step is None else purge_step
        self._test_metrics: dict[str, float] = {}
        self._test_step: int | None = None
        self._warned = False

    @property
    def experiment(self) -> Any:
        """The SummaryWriter; the first one also logs the step from which readers discard earlier events."""
        experiment = super().experiment
        step, self._start_step = self._start_step, None
        if step is not None and rank_zero_only.rank == 0:
            with self._warn_on_write_error():
                for event in (Event(file_version="brain.Event:2"), Event(session_log=SessionLog(status="START"))):
                    experiment.file_writer.add_event(event, step)
        return experiment

    @contextmanager
    def _warn_on_write_error(self) -> Iterator[None]:
        """Warn once about events that cannot be written, for example to a full disk; later events go to a new file."""
        try:
            yield
        except OSError as error:
            if not self._warned:
                rank_zero_warn(f"{self.log_dir}: curves and pictures cannot be written ({error.strerror or error})")
            self._warned = True
            self._experiment = None  # a writer that failed once stays silent

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log each metric as a curve, and those of ``test`` as a table."""
        if step is not None and all(name.startswith("lr-") for name in metrics):
            step += 1  # LearningRateMonitor counts completed steps, all other curves include the current one
        with self._warn_on_write_error():
            for name, value in metrics.items():
                if name.startswith("test/"):
                    self._test_step, self._test_metrics[name.removeprefix("test/")] = step, value
                else:
                    self.experiment.add_scalar(curve_tag(name), value, None if step is None else int(step))

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, metrics: dict[str, Any] | None = None, step: int | None = None
    ) -> None:
        """Log the hyperparameters, with the newest validation metrics as their result."""
        if self.purge_step is not None:
            return  # logged before the resume
        with self._warn_on_write_error():
            super().log_hyperparams(params)
        from torch.utils.tensorboard.summary import hparams

        readable = readable_hyperparameters(flatten_hyperparameters(params))
        experiment, session_start, _ = hparams(readable, {curve_tag("val/accuracy"): 0.0, curve_tag("val/loss"): 0.0})
        charts = {
            name: ["Multiline", [curve_tag(f"{split}/{name}") for split in ("train", "val")]] for name in FIRST_CURVES
        }
        with self._warn_on_write_error():
            for part in (experiment, session_start):
                self.experiment.file_writer.add_summary(part)
            self.experiment.add_custom_scalars({"training and validation": charts})

    @rank_zero_only
    def save(self) -> None:
        """Write buffered events."""
        with self._warn_on_write_error():
            super().save()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write buffered events."""
        with self._warn_on_write_error():
            if self._test_metrics:
                rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in sorted(self._test_metrics.items()))
                results = f"| metric | test |\n| --- | ---: |\n{rows}"
                self.experiment.add_text(f"{RESULTS}/test/metrics", results, self._test_step)
                self._test_metrics = {}
            super().finalize(status)


def readable_hyperparameters(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters chosen by the user, under short names.

    >>> readable_hyperparameters({"batch_size": 64, "net/class_path": "a.b.ResNet9", "net/init_args/width": 16,
    ...     "compile": "None"})
    {'batch_size': 64, 'net': 'ResNet9', 'net.width': 16}
    """
    readable = {}
    for name, value in flat.items():
        if name.startswith(("_instantiator", *SET_FROM_DATA)) or value in (None, "None", "[]"):
            continue
        if name.endswith("class_path"):
            value = value.rpartition(".")[2]
        readable[name.removesuffix("/class_path").replace("/init_args/", ".").replace("/", ".")] = value
    return readable
