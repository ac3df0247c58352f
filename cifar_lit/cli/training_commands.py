"""The command line: fit, validate, test and lr_find from YAML, with checkpoints that are never silently misused."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning.pytorch import LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from cifar_lit.atomic_file import write_atomically
from cifar_lit.cli.console import metrics_of, print_metrics, print_next_steps
from cifar_lit.cli.json_schema import config_schema
from cifar_lit.cli.parser import Parser, check_yaml, flag, option_values
from cifar_lit.data.datamodule import ImageDataModule
from cifar_lit.errors import InputError
from cifar_lit.training.checkpointing.best_checkpoint import BestCheckpoint
from cifar_lit.training.checkpointing.checkpoint_files import (
    CheckpointRun,
    check_same_model,
    find_checkpoint,
    newest_run,
    read_checkpoint,
    read_hyperparameters,
)
from cifar_lit.training.checkpointing.last_checkpoint import LastCheckpoint
from cifar_lit.training.classifier import Classifier
from cifar_lit.training.git_version import commit_line
from cifar_lit.training.oom import explain_out_of_memory
from cifar_lit.training.precision import fastest_precision
from cifar_lit.training.trainer import Trainer

FIT = """Trains a network. CIFAR-10 (downloaded): --config configs/resnet9_s4.yaml. Your own images, in
DIR/train/<class>/ and DIR/test/<class>/: the same with --data ClassFolders --data.root DIR."""


class SaveRunConfig(SaveConfigCallback):
    """Save the configuration in the run's folder when training starts, in a form that every command takes."""

    config: Namespace

    def setup(self, trainer: LightningTrainer, pl_module: LightningModule, stage: str) -> None:
        """Saves nothing yet: a run that is refused to go on keeps the configuration that it had."""

    def on_train_start(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Saves, before the first checkpoint, with the learning rate that was found if one was."""
        self.config = self.config.clone()
        for own_option in ("ckpt_path", "resume", "lr_find", "min_lr", "max_lr", "num_training"):
            self.config.pop(own_option, None)
        self.config.model.lr = pl_module.lr
        settings = self.config.get("trainer.logger.init_args") or {}
        if "purge_step" in settings:
            settings["purge_step"] = None  # for this start of the run, not for what reads its configuration later
        folder = trainer.log_dir  # the same in all processes
        if trainer.is_global_zero and folder is not None:  # at once: a run that is killed here can still be read
            text = commit_line() + self.parser.dump(self.config, skip_none=False)
            try:
                write_atomically(Path(folder, self.config_filename), text.encode())
            except OSError as error:
                raise InputError(
                    f"{folder} cannot be written ({error.strerror or error}); choose another:"
                    " --trainer.logger.save_dir DIR"
                ) from error


class CommandLine(LightningCLI):
    """Lightning's command line around a Classifier and an ImageDataModule.

    Args:
        defaults: A YAML with the defaults of every run.
        args: The arguments after the program's name.
    """

    def __init__(self, defaults: Path, args: Sequence[str]) -> None:
        self._started = time.monotonic()
        self._run: CheckpointRun | None = None
        self._resumed_step = 0
        options: dict[str, Any] = {"allow_abbrev": False}
        for name in self.subcommands():
            options[name] = {"default_config_files": [str(defaults)], "allow_abbrev": False}
        options["fit"]["description"] = FIT
        super().__init__(
            Classifier,
            ImageDataModule,
            subclass_mode_data=True,
            trainer_class=Trainer,
            parser_class=Parser,
            save_config_callback=SaveRunConfig,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_kwargs=options,
            args=list(args),
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The subcommands, and the arguments of their methods that are not options."""
        not_options = {"model", "datamodule", "dataloaders", "train_dataloaders", "val_dataloaders"}
        not_options |= {"weights_only", "verbose"}
        return dict.fromkeys(("fit", "validate", "test", "lr_find"), not_options)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the settings of the best and the last checkpoint, and tells the model what the data know."""
        parser.add_lightning_class_args(BestCheckpoint, "best_checkpoint")
        parser.add_lightning_class_args(LastCheckpoint, "last_checkpoint")
        for name in ("num_classes", "class_names", "image_size", "mean", "std"):
            parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")
        parser.link_arguments("data.num_classes", "model.net.init_args.num_classes", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the arguments; finds the checkpoint that they name and refuses it if it is of another network."""
        args = self._with_run_config(flag(args, "--resume"))
        for file in option_values(args, "-c", "--config"):
            check_yaml(Path(file))
        self.config = parser.parse_args(args)
        config = self.config[self.config.subcommand]
        self._name_run(config)
        if config.get("resume"):
            self._run = self._newest_run(config)
        elif config.get("ckpt_path") is not None:
            self._run = self._run or find_checkpoint(config.ckpt_path, self._runs_of(config))
        if self._run is None:
            return
        config.ckpt_path = str(self._run.file)
        self._resumed_step = read_checkpoint(self._run.file)["global_step"]
        if config.model.lr is None:  # perhaps it was found by a search
            config.model.lr = read_hyperparameters(self._run.file).get("lr")
        for note in check_same_model(self._run.file, config.model.as_dict()):
            print(f"warning: {note}", file=sys.stderr)

    def _newest_run(self, config: Namespace) -> CheckpointRun | None:
        if config.get("ckpt_path") is not None:
            raise InputError("--resume finds the checkpoint by itself: leave out --ckpt_path")
        if not config.trainer.get("logger"):
            raise InputError("--resume finds the run by the folder of its logger: leave out trainer.logger false")
        runs = self._runs_of(config)
        found = newest_run(runs)
        print(f"Going on with {found.file}" if found else f"No run to go on with in {runs}: a new one begins")
        return found

    def _with_run_config(self, args: list[str]) -> list[str]:
        """The arguments, with the configuration of the checkpoint's own run where none is given."""
        checkpoints = option_values(args, "--ckpt_path")
        if not checkpoints or option_values(args, "-c", "--config"):
            return args
        self._run = find_checkpoint(checkpoints[-1], "runs/*/*")
        config = self._run.config
        if not config.is_file():
            raise InputError(f"there is no {config}; say what the checkpoint was trained with: --config FILE")
        print(f"Configuration of that run: {config}")
        return [args[0], "--config", str(config), *args[1:]]

    @staticmethod
    def _name_run(config: Namespace) -> None:
        """Names the run's folder after its configuration file."""
        files = [Path(str(file)) for file in config.get("config") or []]
        settings = config.get("trainer.logger.init_args")
        if settings is not None and settings.get("name", "") is None and files:
            settings.name = files[0].stem

    @staticmethod
    def _runs_of(config: Namespace) -> str:
        settings = config.get("trainer.logger.init_args") or Namespace()
        return f"{settings.get('save_dir') or 'runs'}/{settings.get('name') or 'run'}/*"

    def before_instantiate_classes(self) -> None:
        """Chooses what the configuration leaves open."""
        config = self.config[self.subcommand]
        if config.trainer.precision is None:
            config.trainer.precision = fastest_precision(config.trainer.accelerator)
        defaults = self._subcommand_parsers[self.subcommand].get_defaults().trainer.callbacks
        config.trainer.callbacks = without_replaced(config.trainer.callbacks, defaults)
        settings = config.get("trainer.logger.init_args")
        if self._run is not None and self._run.in_run_folder and settings is not None and "version" in settings:
            folder = self._run.folder
            runs = folder.parent
            settings.save_dir, settings.name, settings.version = str(runs.parent), runs.name, folder.name
            if "purge_step" in settings:
                settings.purge_step = self._resumed_step + 1 if self.subcommand == "fit" else None

    def after_instantiate_classes(self) -> None:
        """Fits the checkpoint to the data."""
        if self._run is not None:
            names = read_hyperparameters(self._run.file).get("class_names")
            if names is not None and list(names) != self.datamodule.class_names:
                raise InputError(
                    f"{self._run.file} was trained on the classes {', '.join(names)}, but the data have"
                    f" {', '.join(self.datamodule.class_names)}; give the data that it was trained on"
                )

    def before_lr_find(self) -> None:
        """Makes the run's folder."""
        self._make_run_folder()

    def after_lr_find(self) -> None:
        """Writes out what is still in memory."""
        for logger in self.trainer.loggers:
            logger.finalize("success")

    @property
    def _run_folder(self) -> str | None:
        """As Trainer.log_dir, which waits for the other processes and so must not be asked by one alone."""
        return self.trainer.loggers[0].log_dir if self.trainer.loggers else None

    def _make_run_folder(self) -> None:
        if not self.trainer.is_global_zero:
            return
        folder = self._run_folder
        try:
            Path(folder or self.trainer.default_root_dir).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the run's folder {folder} cannot be made ({error.strerror}); choose another place with"
                " --trainer.logger.save_dir DIR"
            ) from error

    def before_fit(self) -> None:
        """Makes the run's folder. Without validation there is no best checkpoint, only the last."""
        self._make_run_folder()
        if self.datamodule.val_set is None or self.trainer.limit_val_batches == 0:
            best = self._get(self.config_init, "best_checkpoint")
            self.trainer.callbacks = [callback for callback in self.trainer.callbacks if callback is not best]

    def after_fit(self) -> None:
        """Tells the result, and what to type next."""
        trainer, checkpoint = self.trainer, self.trainer.checkpoint_callback
        if not trainer.is_global_zero or trainer.fast_dev_run:
            return
        columns = {split: metrics_of(split, trainer.callback_metrics) for split in ("train", "val")}
        if isinstance(checkpoint, ModelCheckpoint) and checkpoint.best_model_score is not None:
            columns["best val"] = metrics_of("val", {str(checkpoint.monitor): checkpoint.best_model_score})
        seconds = time.monotonic() - self._started
        epochs = f"{trainer.current_epoch} epoch{'s' * (trainer.current_epoch != 1)}"
        title = f"{epochs}, {trainer.global_step} steps, {seconds:.0f} s{self._ended_early()}"
        print_metrics(title, {heading: metrics for heading, metrics in columns.items() if metrics})
        kept = [
            one.file if isinstance(one, LastCheckpoint) else getattr(one, "best_model_path", None)
            for one in trainer.checkpoint_callbacks
        ]
        saved = [str(file) for file in kept if file]
        fold_of_several = self.datamodule.folds > 0  # whose network is not to be used by itself
        if saved and self._run_folder is not None and not fold_of_several:  # the best first, else the last
            print_next_steps(saved[0], self._run_folder)

    def _ended_early(self) -> str:
        trainer = self.trainer
        if self._run is not None and trainer.global_step == self._resumed_step:
            return " (nothing was left to train; a higher trainer.max_epochs would go on)"
        if any(isinstance(callback, EarlyStopping) and callback.stopped_epoch for callback in trainer.callbacks):
            return f" (stopped early, of {trainer.max_epochs} epochs)"
        return ""

    def validate(self, **kwargs: Any) -> None:
        """Judges a checkpoint by the validation images."""
        with explain_out_of_memory(self.datamodule, self.trainer.strategy.root_device):
            self.trainer.validate(verbose=False, **kwargs)
        self._tell("val")

    def test(self, **kwargs: Any) -> None:
        """Judges a checkpoint by the test images."""
        with explain_out_of_memory(self.datamodule, self.trainer.strategy.root_device):
            self.trainer.test(verbose=False, **kwargs)
        self._tell("test")

    def _tell(self, split: str) -> None:
        if self.trainer.is_global_zero:
            source = "fresh weights" if self._run is None else str(self._run.file)
            print_metrics(source, {split: metrics_of(split, self.trainer.callback_metrics)})


def without_replaced(callbacks: list[Namespace] | None, defaults: list[Namespace]) -> list[Namespace]:
    """The callbacks; where some were added to the default ones, without the default ones of the same classes.

    So ``callbacks+:`` with a ``GradCAMImages`` sets up the one that is there, and any other class is added.

    >>> default, own = Namespace(class_path="A", init_args=1), Namespace(class_path="A", init_args=2)
    >>> without_replaced([default, own], [default]) == [own]
    True
    >>> without_replaced([own, default], [default]) == [own, default]
    True
    """
    listed = callbacks or []
    if listed[: len(defaults)] != defaults:
        return listed
    added = listed[len(defaults) :]
    replaced = {callback.class_path for callback in added}
    return [callback for callback in defaults if callback.class_path not in replaced] + added


class SchemaPrinter(CommandLine):
    """Prints the JSON Schema of the configuration, and does nothing else."""

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> NoReturn:
        """Prints the schema in place of parsing."""
        print(json.dumps(config_schema(self._subcommand_parsers["fit"]), separators=(",", ":")))
        raise SystemExit(0)
