"""Registry of the commands: name, summary, and the function that runs each."""

import ctypes
import difflib
import importlib
import os
import pkgutil
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cifar_lit.cli.arguments import check_files, split_options, with_data_of_configs, with_explicit_true
from cifar_lit.cli.option_help import OPTIONS, option_help
from cifar_lit.cli.warning_filters import ignore_third_party_warnings
from cifar_lit.errors import InputError
from cifar_lit.import_allowlist import OPTION, allow


@dataclass(frozen=True)
class Command:
    """A command of main.py.

    summary: One line for ``main.py --help``.
    function: Import path of the function that runs it, whose signature gives the options; None for the commands of
        Lightning's command line (cifar_lit.cli.training_commands).
    positional: Argument that collects the positional values.
    repeated: Arguments that take several values after their option name, each with its help.
    reads_checkpoint: Whether ``--ckpt_path`` is ``best`` by default.
    reads_data: Whether it has the options ``--data`` of ``fit``, also from the configurations given as ``--config``.
    """

    summary: str
    function: str | None = None
    positional: str | None = None
    repeated: tuple[tuple[str, str], ...] = ()
    reads_checkpoint: bool = False
    reads_data: bool = False


COMMANDS = {
    "fit": Command("Train a network"),
    "validate": Command("Evaluate a checkpoint on the validation images", reads_checkpoint=True),
    "test": Command("Evaluate a checkpoint on the test images", reads_checkpoint=True),
    "lr_find": Command("Find a learning rate"),
    "predict": Command("Classify image files", "cifar_lit.cli.predict.predict", "images", reads_checkpoint=True),
    "demo": Command("Open a trained network as a web page", "space.export.command.demo", reads_checkpoint=True),
    "export": Command(
        "Export a trained network as a Hugging Face Space", "space.export.command.export", reads_checkpoint=True
    ),
    "report": Command(
        "Write a report on a run, or compare runs",
        "report.command.report",
        repeated=(
            ("compare", "Two or more runs to compare."),
            (
                "unknown_class",
                "Classes to leave out, one at a time, to test whether a network trained without it detects it.",
            ),
        ),
        reads_checkpoint=True,
    ),
    "audit": Command("Find faulty and duplicate images", "report.audit.command.audit", reads_data=True),
    "schema": Command("Print a JSON Schema of the YAML files"),
}
# Names that users of other programs try
_SYNONYMS = {"train": "fit", "eval": "validate", "evaluate": "test", "classify": "predict", "serve": "demo"}


def help_text() -> str:
    """Return the overview that ``main.py --help`` prints."""
    lines = [f"  {name:<10}{command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "Train an image classifier from one YAML file, see why it is right or wrong, and share it.",
            "",
            "usage: main.py COMMAND [OPTIONS]",
            "",
            *lines,
            "",
            "main.py COMMAND --help lists a command's options. To start: main.py fit --config configs/quickstart.yaml",
        ]
    )


def did_you_mean(name: str, known: Iterable[str], synonyms: Mapping[str, str] | None = None) -> str:
    """Return ``; did you mean ...?`` with the known name closest to a misspelled one, or an empty string.

    Args:
        name: The misspelled name.
        known: The known names.
        synonyms: Other names of known ones.

    >>> did_you_mean("trian", ["fit", "lr_find"], {"train": "fit"})
    "; did you mean 'fit'?"
    """
    synonyms = synonyms or {}
    matches = difflib.get_close_matches(name, [*known, *synonyms], n=1, cutoff=0.5)
    return f"; did you mean {synonyms.get(matches[0], matches[0])!r}?" if matches else ""


def run_command(args: Sequence[str], plugin_packages: Sequence[str], defaults: Path) -> None:
    """Run the command that the arguments name.

    Checks that need no torch come first, so that a mistake is reported at once.

    Args:
        args: Arguments after the program name.
        plugin_packages: Packages whose classes can be named in YAML without their module.
        defaults: YAML file with the defaults of all runs.

    Raises:
        InputError: if there is no such command, or a file that the arguments name does not exist.
    """
    modules, args = split_options(args, OPTION)
    name, *options = args or ["--help"]
    if name in ("-h", "--help"):
        print(help_text())
        return
    if name in ("-c", "--config"):
        raise InputError("the command comes first: main.py fit --config FILE")
    if name not in COMMANDS:
        print(help_text(), end="\n\n", file=sys.stderr)
        raise InputError(f"unknown command {name!r}{did_you_mean(name, COMMANDS, _SYNONYMS)}")
    command = COMMANDS[name]
    if name in OPTIONS and {"-h", "--help"} & set(options):
        print(option_help(name, command.summary))
        return
    if not any(option in ("-h", "--help", "--help_all") or option.endswith(".help") for option in options):
        reads_checkpoint = command.reads_checkpoint and "--compare" not in options
        check_files(options, reads_checkpoint, command.positional)
    ignore_third_party_warnings()
    if name != "schema":  # reads no YAML and describes all classes
        allow(modules)
    if command.function is None:
        _run_lightning_command(args, plugin_packages, defaults)
    else:
        _run_function(name, options, plugin_packages)


def plugin_modules(packages: Iterable[str]) -> Iterator[str]:
    """Yield the import paths of the modules in packages, without their subpackages."""
    for package in packages:
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            if not module.ispkg:
                yield module.name


def _run_lightning_command(args: Sequence[str], plugin_packages: Sequence[str], defaults: Path) -> None:
    if "LOCAL_RANK" in os.environ:  # one of several processes, started by Lightning or torchrun
        _end_with_parent()
    with _announce_loading():
        for module in plugin_modules(plugin_packages):
            importlib.import_module(module)
        from cifar_lit.cli.training_commands import CommandLine
    CommandLine(defaults, ["--help" if argument == "--help_all" else argument for argument in args])


def _run_function(name: str, options: Sequence[str], plugin_packages: Sequence[str]) -> None:
    command = COMMANDS[name]
    if command.reads_data:
        options = with_data_of_configs(options)
    module, _, function_name = str(command.function).rpartition(".")
    with _announce_loading():
        function = getattr(importlib.import_module(module), function_name)
        for plugin in plugin_modules(plugin_packages) if command.reads_data else ():
            importlib.import_module(plugin)
        from cifar_lit.cli.jsonargparse_compat import Parser
    parser = Parser(prog=f"main.py {name}", description=f"{command.summary}.", allow_abbrev=False)
    separately = {name for name, _ in command.repeated}
    if command.positional:
        separately.add(command.positional)
        parser.add_argument(command.positional, nargs="+", help="Files, or folders that contain them at any depth.")
    parser.add_function_arguments(function, as_group=False, skip=separately)
    for argument, text in command.repeated:
        parser.add_argument(f"--{argument}", nargs="+", default=[], help=text)
    settings = parser.parse_args(with_explicit_true(options, "--dry_run", "--yes"))
    function(**parser.instantiate_classes(settings).as_dict())


@contextmanager
def _announce_loading() -> Iterator[None]:
    """Print, in a terminal, that libraries are being loaded, if that takes longer than a second.

    Afterwards, Ctrl-C raises KeyboardInterrupt; until then, ``main.py`` ends at once.
    """
    timer = threading.Timer(1.0, print, ["Loading PyTorch and Lightning ..."], {"file": sys.stderr, "flush": True})
    timer.daemon = True
    if sys.stderr.isatty():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as in a background job
        if not is_ignored and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _end_with_parent() -> None:
    """Kill this process when its parent dies, however that happens; otherwise, it would wait for it forever."""
    if sys.platform == "linux":
        set_death_signal = 1  # PR_SET_PDEATHSIG in sys/prctl.h
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
