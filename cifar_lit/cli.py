"""The command line: fit, validate, test and lr_find from YAML, with checkpoints that are never silently misused."""

import json
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning.pytorch import LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from rich.console import Console
from rich.table import Table

from cifar_lit.arguments import Parser, check_yaml, option_values
from cifar_lit.checkpoints import CheckpointRun, check_same_model, find_checkpoint, read_hyperparameters
from cifar_lit.classifier import Classifier
from cifar_lit.data.datamodule import ImageDataModule
from cifar_lit.errors import InputError
from cifar_lit.precision import fastest_precision
from cifar_lit.schema import config_schema
from cifar_lit.trainer import Trainer

DESCRIPTION = """Trains an image classifier from one YAML file and shows why it is right or wrong.
Two further commands: `predict IMAGES --ckpt_path FILE` classifies images; `schema` prints a JSON Schema of the YAML."""
FIT = """Trains a network. CIFAR-10 (downloaded): --config configs/resnet9_s4.yaml. Your own images, in
DIR/train/<class>/ and DIR/test/<class>/: the same with --data ClassFolders --data.root DIR."""


class SaveRunConfig(SaveConfigCallback):
    """Saves the configuration in the run's folder when training starts, such that every command can take it."""

    def setup(self, trainer: LightningTrainer, pl_module: LightningModule, stage: str) -> None:
        """Saves before ``fit``, with the learning rate that was found if one was; before nothing else."""
        if stage != "fit":
            return
        self.config = self.config.clone()
        for option_of_fit in ("ckpt_path", "lr_find"):
            self.config.pop(option_of_fit, None)
        self.config.model.lr = pl_module.lr
        self.already_saved = False
        super().setup(trainer, pl_module, stage)


class CommandLine(LightningCLI):
    """Lightning's command line around a Classifier and an ImageDataModule.

    Args:
        defaults: A YAML with the defaults of every run.
        args: The arguments after the program's name.
    """

    def __init__(self, defaults: Path, args: Sequence[str]) -> None:
        self._started = time.monotonic()
        self._run: CheckpointRun | None = None
        options: dict[str, Any] = {"allow_abbrev": False, "description": DESCRIPTION}
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
            args=list(args),  # type: ignore[arg-type]
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The subcommands, and the arguments of their methods that are not options."""
        not_options = {"model", "datamodule", "dataloaders", "train_dataloaders", "val_dataloaders", "weights_only"}
        return dict.fromkeys(("fit", "validate", "test", "lr_find"), not_options)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the checkpoint's settings, and tells the model what the data know."""
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        for name in ("num_classes", "class_names", "image_size", "mean", "std"):
            parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")
        parser.link_arguments("data.num_classes", "model.net.init_args.num_classes", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the arguments; finds the checkpoint that they name and refuses it if it is of another network."""
        args = self._with_run_config(args)
        for file in option_values(args, "-c", "--config"):
            check_yaml(Path(file))
        self.config = parser.parse_args(args)
        config = self.config[self.config.subcommand]
        self._name_run(config)
        if config.get("ckpt_path") is None:
            return
        self._run = find_checkpoint(config.ckpt_path, self._runs_folder(config))
        config.ckpt_path = str(self._run.file)
        for note in check_same_model(self._run.file, config.model.as_dict()):
            warnings.warn(note, stacklevel=2)

    @staticmethod
    def _with_run_config(args: list[str]) -> list[str]:
        """The arguments, with the configuration of the checkpoint's own run where none is given."""
        checkpoints = option_values(args, "--ckpt_path")
        if not checkpoints or option_values(args, "-c", "--config") or not Path(checkpoints[-1]).is_file():
            return args
        config = CheckpointRun(Path(checkpoints[-1])).config
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
    def _runs_folder(config: Namespace) -> Path:
        settings = config.get("trainer.logger.init_args") or Namespace()
        return Path(settings.get("save_dir") or "runs", settings.get("name") or "run")

    def before_instantiate_classes(self) -> None:
        """Chooses what the configuration leaves open."""
        config = self.config[self.subcommand]
        if config.trainer.precision is None:
            config.trainer.precision = fastest_precision(config.trainer.accelerator)
        settings = config.get("trainer.logger.init_args")
        if self._run is not None and settings is not None and "version" in settings:
            folder = self._run.folder
            settings.save_dir, settings.name, settings.version = str(folder.parents[1]), folder.parent.name, folder.name

    def after_instantiate_classes(self) -> None:
        """Fits the checkpoint to the data."""
        if self._run is not None:
            names = read_hyperparameters(self._run.file).get("class_names")
            if names is not None and list(names) != self.datamodule.class_names:
                raise InputError(
                    f"{self._run.file} was trained on the classes {', '.join(names)}, but the data have"
                    f" {', '.join(self.datamodule.class_names)}; give the data that it was trained on"
                )

    def before_fit(self) -> None:
        """Without validation there is no best checkpoint, only the last."""
        if self.datamodule.val_set is None:
            for callback in self.trainer.checkpoint_callbacks:
                callback.monitor = None  # type: ignore[attr-defined]
                callback.save_top_k = 0  # type: ignore[attr-defined]

    def after_fit(self) -> None:
        """Tells the result, and what to type next."""
        if not self.trainer.is_global_zero or self.trainer.fast_dev_run:
            return
        checkpoint = self.trainer.checkpoint_callback
        assert isinstance(checkpoint, ModelCheckpoint)
        best = checkpoint.best_model_path or checkpoint.last_model_path
        metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items() if name != "step"}
        table = Table(title="Result", title_justify="left")
        table.add_column()
        table.add_column("last epoch", justify="right")
        for name in sorted(metrics):
            table.add_row(name, f"{metrics[name]:.4f}")
        if checkpoint.best_model_score is not None:
            table.add_row(f"best {checkpoint.monitor}", f"{float(checkpoint.best_model_score):.4f}")
        table.add_row("time", f"{time.monotonic() - self._started:.0f} s")
        console = Console(soft_wrap=True)
        console.print(table)
        run = "uv run " if "UV" in os.environ else ""  # set by `uv run`, without which `tensorboard` is not on the path
        print(f"Best checkpoint: {best}")
        print(f"Test it:         {run or 'python '}main.py test --ckpt_path {best}")
        print(f"See it:          {run}tensorboard --logdir {self.trainer.log_dir} --samples_per_plugin images=100")


class SchemaPrinter(CommandLine):
    """Prints the JSON Schema of the configuration, and does nothing else."""

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> NoReturn:
        """Prints the schema in place of parsing."""
        print(json.dumps(config_schema(self._subcommand_parsers["fit"]), indent=1))
        raise SystemExit(0)
