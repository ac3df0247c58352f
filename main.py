"""Trains an image classifier from one YAML file, shows why it is right or wrong, and classifies images with it.

python main.py fit --config configs/quickstart.yaml
"""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from cifar_lit.errors import InputError

HERE = Path(__file__).parent

# Imported before parsing, so that YAML may name their classes without the module
NAMED_IN_YAML = (
    "cifar_lit.models",
    "cifar_lit.data.augment",
    "cifar_lit.data.digits",
    "cifar_lit.data.cifar",
    "cifar_lit.data.folders",
    "cifar_lit.logger",
    "callbacks.class_accuracy",
    "callbacks.class_counts",
    "callbacks.model_summary",
    "callbacks.training_samples",
)


def main(args: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        args: What follows the program's name; by default, what was typed.

    Returns:
        The exit status: 0, or 2 after an error of the user's, which is told in one line.
    """
    try:
        run(sys.argv[1:] if args is None else args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run(args: Sequence[str]) -> None:
    """Runs a command; its errors are raised."""
    from cifar_lit.noise import silence

    silence()
    if args[:1] == ["predict"]:
        from cifar_lit.predict import predict_command

        return predict_command(args[1:])
    for module in NAMED_IN_YAML:
        importlib.import_module(module)
    from cifar_lit.cli import CommandLine, SchemaPrinter

    command_line = SchemaPrinter if args[:1] == ["schema"] else CommandLine
    command_line(HERE / "configs" / "defaults.yaml", args)


if __name__ == "__main__":
    sys.exit(main())
