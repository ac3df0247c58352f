"""Train an image classifier from one YAML file, see why it is right or wrong, and share it.

python main.py fit --config configs/quickstart.yaml
"""

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    # A KeyboardInterrupt would leave modules half imported, and print a traceback
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cifar_lit.cli.commands import run_command
from cifar_lit.cli.exit_status import exit_status
from cifar_lit.malloc import keep_freed_memory

DEFAULTS = Path(__file__).parent / "configs" / "defaults.yaml"
# Packages whose classes can be named in YAML without their module
PLUGIN_PACKAGES = ("cifar_lit.models", "cifar_lit.data", "cifar_lit.training", "cifar_lit.training.optim", "callbacks")


def main(args: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        args: Arguments after the program name; by default, those of this process.

    Returns:
        The exit status: 0; 2 after a user error, which is printed as one line; 128 plus the signal number after a
        signal.
    """
    args = sys.argv[1:] if args is None else args
    return exit_status(partial(run_command, args, PLUGIN_PACKAGES, DEFAULTS))


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
