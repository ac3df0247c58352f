"""Save the configuration of a run in its folder."""

from pathlib import Path

from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from cifar_lit.errors import InputError
from cifar_lit.safe_files import write_atomically
from cifar_lit.training.git_version import commit_line


class SaveRunConfig(SaveConfigCallback):
    """Save the configuration in the run's folder when training starts, as a file that every command accepts."""

    config: Namespace
    _text = ""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save nothing yet, so that a refused resume keeps the run's configuration."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save before the first checkpoint, with the learning rate found by ``lr_find``."""
        self.config = self.config.clone()
        for option in ("ckpt_path", "resume", "lr_find", "min_lr", "max_lr", "num_training"):
            self.config.pop(option, None)
        self.config.model.lr = pl_module.lr
        settings = self.config.get("trainer.logger.init_args") or {}
        if "purge_step" in settings:
            settings["purge_step"] = None  # applies to this start only
        self._text = commit_line() + self.parser.dump(self.config, skip_none=False)
        folder = trainer.log_dir  # the same in all processes, which must all ask for it
        if trainer.is_global_zero and folder is not None:
            self._save(folder)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save again if the run's folder was deleted, before a checkpoint creates it again."""
        folder = trainer.log_dir
        if trainer.is_global_zero and folder is not None and not Path(folder, self.config_filename).exists():
            rank_zero_warn(f"{folder} was deleted or moved; creating it again, without the earlier curves")
            self._save(folder)

    def _save(self, folder: str) -> None:
        try:  # atomically, since the run may be killed here
            write_atomically(Path(folder, self.config_filename), self._text.encode())
        except OSError as error:
            raise InputError(f"{folder} cannot be written ({error.strerror or error})") from error
