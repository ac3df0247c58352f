"""Trains an image classifier from one YAML file, shows its training in TensorBoard, and classifies images with it.

python main.py fit --config configs/quickstart.yaml
"""

import importlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from cifar_lit.allocator import keep_freed_memory
from cifar_lit.errors import InputError, Stopped

HERE = Path(__file__).parent

# Imported before parsing, so that YAML may name their classes without the module
NAMED_IN_YAML = (
    "cifar_lit.models",
    "cifar_lit.data.augment",
    "cifar_lit.data.digits",
    "cifar_lit.data.cifar",
    "cifar_lit.data.folders",
    "cifar_lit.logger",
    "cifar_lit.optimization.by_kind",
    "cifar_lit.optimization.freeze",
    "cifar_lit.optimization.lookahead",
    "cifar_lit.optimization.muon",
    "cifar_lit.optimization.schedules",
    "callbacks.calibration",
    "callbacks.class_accuracy",
    "callbacks.class_counts",
    "callbacks.confusion_matrix",
    "callbacks.grad_cam",
    "callbacks.misclassified",
    "callbacks.model_summary",
    "callbacks.progress_bar",
    "callbacks.training_samples",
)


def main(args: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        args: What follows the program's name; by default, what was typed.

    Returns:
        The exit status: 0; 2 after an error of the user's, which is told in one line; 128 and the signal's number
        after a signal.
    """
    try:
        run(sys.argv[1:] if args is None else args)
    except Stopped as stopped:
        if stopped.rank == 0:
            print(stopped, file=sys.stderr)
        return stopped.status
    except KeyboardInterrupt:
        print("Stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # which Lightning makes a 1 of
            return 128 + signal.SIGINT
        if type(end).__name__ == "SIGTERMException":  # Lightning's, before training has begun
            return 128 + signal.SIGTERM
        raise
    except Exception as error:
        message = user_message(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return 2
    return 0


def user_message(error: BaseException | None) -> str | None:
    """What to tell the user of an error that is theirs to mend; None for one that is ours."""
    while error is not None:
        # jsonargparse raises its own error from one in a constructor. Lightning's are known by name, since importing it
        # would slow the commands that do without it: settings that do not go together, hardware that is not there
        if isinstance(error, InputError) or type(error).__name__ == "MisconfigurationException":
            return " ".join(str(error).split())
        if isinstance(error, RuntimeError) and str(error).startswith("Early stopping conditioned on metric"):
            return " ".join(str(error).split())
        error = error.__cause__ or error.__context__
    return None


def run(args: Sequence[str]) -> None:
    """Runs a command; its errors are raised."""
    from cifar_lit.imports import take_allowed
    from cifar_lit.noise import silence

    silence()
    if args[:1] != ["schema"]:  # which reads nobody's YAML, and tells of all classes
        args = take_allowed(args)
    if args and args[0] in ("-c", "--config"):
        raise InputError("the command comes first: main.py fit --config FILE")
    if args[:1] == ["predict"]:
        from cifar_lit.predict import predict_command

        return predict_command(args[1:])
    if args[:1] == ["report"]:
        from space.report.command import report_command

        return report_command(args[1:])
    if args[:1] in (["export"], ["demo"]):
        from space.export import demo_command, export_command

        return {"export": export_command, "demo": demo_command}[args[0]](args[1:])
    for module in NAMED_IN_YAML:
        importlib.import_module(module)
    from cifar_lit.cli import CommandLine, SchemaPrinter

    command_line = SchemaPrinter if args[:1] == ["schema"] else CommandLine
    command_line(HERE / "configs" / "defaults.yaml", args)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
