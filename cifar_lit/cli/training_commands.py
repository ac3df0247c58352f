"""The commands of LightningCLI: fit, validate, test, lr_find and schema."""

import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from jsonargparse import Namespace
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_info

from cifar_lit.cli import summary
from cifar_lit.cli.arguments import (
    merge_callbacks,
    split_options,
    with_evaluation_defaults,
    with_explicit_true,
)
from cifar_lit.cli.json_schema import config_schema
from cifar_lit.cli.jsonargparse_compat import CompatCLI, Parser, subcommand_parser
from cifar_lit.cli.save_config import SaveRunConfig
from cifar_lit.data.datamodule import ImageDataModule
from cifar_lit.errors import InputError
from cifar_lit.import_allowlist import allow_options
from cifar_lit.models.factory import find_factory
from cifar_lit.safe_files import create_folder, lock_folder
from cifar_lit.training.checkpointing.best_checkpoint import BestCheckpoint
from cifar_lit.training.checkpointing.checkpoint_files import (
    SET_FROM_DATA,
    check_same_model,
    find_checkpoint,
    newest_run,
    plain,
    read_checkpoint,
)
from cifar_lit.training.checkpointing.checkpoint_paths import CheckpointRun
from cifar_lit.training.checkpointing.last_checkpoint import LastCheckpoint
from cifar_lit.training.classifier import Classifier
from cifar_lit.training.oom import explain_out_of_memory
from cifar_lit.training.precision import fastest_precision
from cifar_lit.training.pretrained import build_pretrained, use_preprocessing
from cifar_lit.training.trainer import Trainer


class CommandLine(CompatCLI):
    """LightningCLI for a Classifier and an ImageDataModule.

    Args:
        defaults: YAML file with the defaults of all runs.
        args: Arguments after the program name.
    """

    def __init__(self, defaults: Path, args: Sequence[str]) -> None:
        self._started = time.monotonic()
        self._run: CheckpointRun | None = None
        self._stored: dict[str, Any] = {}  # the classifier's settings in the checkpoint
        self._resumed_step = 0
        self._lock: FileLock | None = None
        self._args, self._command = list(args), "fit" if args[0] == "schema" else args[0]
        own: dict[str, Any] = {"default_config_files": [str(defaults)], "allow_abbrev": False}
        super().__init__(
            Classifier,
            ImageDataModule,
            subclass_mode_data=True,
            trainer_class=Trainer,
            parser_class=Parser,
            save_config_callback=SaveRunConfig,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_kwargs={"allow_abbrev": False, self._command: own},
            args=self._args,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "CommandLine":
        return self  # copies of the model, as in StochasticWeightAveraging, refer to it

    def subcommands(self) -> dict[str, set[str]]:
        """Return the subcommand in use, and which arguments of its method are not options; others would take time."""
        data = {"datamodule", "dataloaders", "train_dataloaders", "val_dataloaders"}
        return {self._command: data | {"model", "weights_only", "verbose"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the settings of both checkpoints; link the model to the properties of the data."""
        parser.add_lightning_class_args(BestCheckpoint, "best_checkpoint")
        parser.add_lightning_class_args(LastCheckpoint, "last_checkpoint")
        for name in SET_FROM_DATA:
            parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")
        parser.link_arguments("data.num_classes", "model.net.init_args.num_classes", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the arguments and find the checkpoint; raise if it belongs to a different network.

        The command ``schema`` prints the JSON Schema of the configuration and exits.
        """
        if args[0] == "schema":
            print(json.dumps(config_schema(subcommand_parser(self, "fit")), separators=(",", ":")))
            raise SystemExit(0)
        args = with_explicit_true(args, "--resume")
        args = self._with_run_config(with_evaluation_defaults(args))
        self.config = parser.parse_args(args)
        config = self.config[self.config.subcommand]
        runs = self._name_run(config)
        if config.get("resume"):
            self._run = self._newest_run(config, runs)
        elif config.get("ckpt_path") is not None:
            self._run = self._run or find_checkpoint(config.ckpt_path, runs)
        checkpoint = None if self._run is None else read_checkpoint(self._run.file)
        self._stored = {} if checkpoint is None else checkpoint.get("hyper_parameters", {})
        stored = None if checkpoint is None else self._stored
        if note := use_preprocessing(config.data.get("init_args", {}), plain(config.model.net), stored):
            rank_zero_info(note)
        if self._run is None or checkpoint is None:
            return
        config.ckpt_path, self._resumed_step = str(self._run.file), checkpoint["global_step"]
        if config.model.lr is None:  # may have been found by lr_find
            config.model.lr = self._stored.get("lr")
        is_resumed = self.config.subcommand == "fit"
        for note in check_same_model(self._run.file, self._stored, config.model.as_dict(), is_resumed):
            print(f"warning: {note}", file=sys.stderr)

    def _newest_run(self, config: Namespace, runs: str) -> CheckpointRun | None:
        if config.get("ckpt_path") is not None:
            raise InputError("--resume finds the checkpoint itself; remove --ckpt_path")
        if not config.trainer.get("logger"):
            raise InputError("--resume finds the run by its logger's folder; remove trainer.logger false")
        found = newest_run(runs)
        print(f"Resuming {found.file}" if found else f"No run to resume in {runs}; starting a new one")
        return found

    def _with_run_config(self, args: list[str]) -> list[str]:
        """Return the arguments, with the configuration of the checkpoint's run if none is given."""
        checkpoints, _ = split_options(args, "--ckpt_path")
        if not checkpoints or split_options(args, "-c", "--config")[0]:
            return args
        self._run = find_checkpoint(checkpoints[-1], "runs/*/*")
        if not (config := self._run.config).is_file():
            raise InputError(f"{config} does not exist; pass the configuration of the run with --config FILE")
        print(f"Configuration: {config}")
        return [args[0], "--config", str(config), *args[1:]]

    @staticmethod
    def _name_run(config: Namespace) -> str:
        """Name the run's folder after the configuration file, and expand ``~`` and variables in ``save_dir``.

        Returns the pattern of the folders of its runs.
        """
        files = [Path(str(file)) for file in config.get("config") or []]
        settings = config.get("trainer.logger.init_args") or Namespace()
        if settings.get("save_dir"):
            settings.save_dir = os.path.expandvars(os.path.expanduser(settings.save_dir))
        if settings.get("name", "") is None and files:
            settings.name = files[0].stem
        return f"{settings.get('save_dir') or 'runs'}/{settings.get('name') or 'run'}/*"

    def instantiate_classes(self) -> None:
        """Build the network from pretrained weights, unless a checkpoint's weights replace them."""
        net = plain(self.config[self.subcommand].model.net)
        if isinstance(net, dict) and "class_path" in net:

            def build(factory: Callable[..., Any], **arguments: Any) -> Any:
                return build_pretrained(factory, arguments, load=self._run is None)

            factory = find_factory(net["class_path"])
            subcommand_parser(self, str(self.subcommand)).add_instantiator(build, factory, subclasses=False)
        super().instantiate_classes()

    def before_instantiate_classes(self) -> None:
        """Fill in unset settings, and set the folder of a resumed run."""
        config = self.config[self.subcommand]
        if config.trainer.precision is None:
            config.trainer.precision = fastest_precision(config.trainer.accelerator)
        defaults = subcommand_parser(self, str(self.subcommand)).get_defaults().trainer.callbacks
        config.trainer.callbacks = merge_callbacks(config.trainer.callbacks, defaults)
        settings = config.get("trainer.logger.init_args")
        if self._run is not None and self._run.has_folder and settings is not None and "version" in settings:
            folder, runs = self._run.folder, self._run.folder.parent
            settings.save_dir, settings.name, settings.version = str(runs.parent), runs.name, folder.name
            if "purge_step" in settings:
                settings.purge_step = self._resumed_step + 1 if self.subcommand == "fit" else None

    def after_instantiate_classes(self) -> None:
        """Raise if the checkpoint was trained on different classes."""
        if self._run is not None:
            names = self._stored.get("class_names")
            if names is not None and list(names) != self.datamodule.class_names:
                raise InputError(
                    f"{self._run.file} was trained on the classes {', '.join(names)}, but the data has"
                    f" {', '.join(self.datamodule.class_names)}; use the data it was trained on"
                )

    def before_lr_find(self) -> None:
        """Create the run's folder."""
        self._create_run_folder()

    def after_lr_find(self) -> None:
        """Flush the loggers, and print the command that trains with the rate."""
        for logger in self.trainer.loggers:
            logger.finalize("success")
        if self.trainer.is_global_zero:
            of_search = "--min_lr", "--max_lr", "--num_training", "--model.lr"
            given = shlex.join([*split_options(self._args[1:], *of_search)[1], *allow_options()])
            print(f"Train with it: {summary.program()} fit {given} --model.lr {self.model.lr:.3g}")

    @property
    def _run_folder(self) -> str | None:
        """``Trainer.log_dir`` without its broadcast, so that one process alone can read it."""
        return self.trainer.loggers[0].log_dir if self.trainer.loggers else None

    def _create_run_folder(self) -> None:
        if not self.trainer.is_global_zero:
            return
        folder = Path(self._run_folder or self.trainer.default_root_dir)
        try:
            create_folder(folder)  # TensorBoard's threads would report a full disk poorly
        except OSError as error:
            reason = f"the run's folder {folder} cannot be written ({error.strerror})"
            raise InputError(f"{reason}; choose another with --trainer.logger.save_dir DIR") from error

    def before_fit(self) -> None:
        """Create the run's folder and lock it; without a validation, remove the best checkpoint's callback."""
        self._create_run_folder()
        if self.trainer.is_global_zero and self._run_folder is not None:
            self._lock = lock_folder(Path(self._run_folder))
        if self.datamodule.val_set is None or self.trainer.limit_val_batches == 0:
            best = self.config_init[str(self.subcommand)].best_checkpoint
            self.trainer.callbacks = [callback for callback in self.trainer.callbacks if callback is not best]

    def after_fit(self) -> None:
        """Unlock the run's folder; print the result and the next commands."""
        if self._lock is not None:
            self._lock.release()
        trainer, checkpoint = self.trainer, self.trainer.checkpoint_callback
        if not trainer.is_global_zero or trainer.fast_dev_run:
            return
        monitor = checkpoint.monitor if isinstance(checkpoint, ModelCheckpoint) else None
        columns = {split: summary.split_metrics(split, trainer.callback_metrics, monitor) for split in ("train", "val")}
        epochs = f"{trainer.current_epoch} epoch{'s' * (trainer.current_epoch != 1)}"
        steps = f"{trainer.global_step} step{'s' * (trainer.global_step != 1)}"
        title = f"{epochs}, {steps}, {time.monotonic() - self._started:.0f} s{self._ending()}"
        summary.print_metrics(title, {heading: metrics for heading, metrics in columns.items() if metrics})
        if hint := summary.overfitting_hint(**columns):
            print(hint)
        kept = [
            one.file if isinstance(one, LastCheckpoint) else getattr(one, "best_model_path", None)
            for one in trainer.checkpoint_callbacks
        ]
        saved = [str(file) for file in kept if file]
        is_fold = self.datamodule.folds > 0  # a single fold is not meant to be used
        if saved and self._run_folder is not None and not is_fold:
            commands = ("test", "report", "demo") if self.datamodule.has_test_images else ("report", "demo")
            best = getattr(checkpoint, "best_model_score", None)
            score = "" if best is None else f" (the best {monitor}: {float(best):.4f})"
            print(f"Checkpoint:  {saved[0]}{score}")  # the best, or else the last
            summary.print_next_steps(saved[0], commands, self._run_folder)

    def _ending(self) -> str:
        if self._run is not None and self.trainer.global_step == self._resumed_step:
            return " (already finished; to train longer, raise trainer.max_epochs)"
        if any(isinstance(one, EarlyStopping) and one.stopped_epoch for one in self.trainer.callbacks):
            return f" (stopped early; trainer.max_epochs is {self.trainer.max_epochs})"
        return ""

    def validate(self, **kwargs: Any) -> None:
        """Evaluate a checkpoint on the validation images."""
        self._evaluate("val", self.trainer.validate, kwargs)

    def test(self, **kwargs: Any) -> None:
        """Evaluate a checkpoint on the test images."""
        self._evaluate("test", self.trainer.test, kwargs)

    def _evaluate(self, split: str, run: Callable[..., Any], arguments: dict[str, Any]) -> None:
        with explain_out_of_memory(self.datamodule, self.trainer.strategy.root_device):
            run(verbose=False, **arguments)
        if not self.trainer.is_global_zero or self._run is None:
            return
        metrics = summary.split_metrics(split, self.trainer.callback_metrics)
        summary.print_metrics(str(self._run.file), {split: metrics})
        dataset = self.datamodule.val_set if split == "val" else self.datamodule.load("test")
        limit = self.trainer.limit_val_batches if split == "val" else self.trainer.limit_test_batches
        if dataset is None or "accuracy" not in metrics or limit != 1.0:
            return
        images = len(dataset)
        correct = round(metrics["accuracy"] * images)
        summary.print_accuracy(split, correct, images)
        if self._run.in_run_folder:
            table = self._run.folder / ("misclassified.csv" if split == "val" else f"misclassified_{split}.csv")
            if correct < images and table.is_file():
                mistakes = f"{images - correct:,} mistake{'s' * (images - correct != 1)}"
                print(f"{mistakes}: {table}, and TensorBoard's Images tab")
            summary.print_next_steps(str(self._run.file), ("report", "demo"), str(self._run.folder))
