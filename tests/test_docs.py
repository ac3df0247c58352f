"""Every documented command works, and every documented file, link and option exists."""

import ast
import contextlib
import functools
import importlib
import inspect
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from callbacks.evaluation_callback import EvaluationCallback
from cifar_lit.cli.commands import COMMANDS
from cifar_lit.data.batches import ImageTensors
from cifar_lit.data.cifar import CIFAR10
from main import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SETUP = ["pip install uv && uv run main.py fit --config configs/quickstart.yaml", "uv run pytest"]

# Commands that are not run here, by their first words, each with the reason
NOT_RUN = {
    "pip install": "downloads packages",
    "uv run pytest": "runs this test",
    "uv run tensorboard": "serves until it is stopped; tests/callbacks read the event files",
    "uv run python my_space/app.py": "serves until it is stopped; tests/space open the page",
    "python my_space/app.py": "serves until it is stopped; tests/space open the page",
    "uv run hf auth login": "needs an account",
    "uv run python -m benchmarks": "takes minutes to hours",
    "uv run main.py schema": "tests/test_configs.py runs it in a subprocess",
    "uv pip sync": "downloads packages",
    "uvx": "downloads packages",
    "export CIFAR_LIT_ALLOW_IMPORT": "a shell builtin; tests/cli sets the variable",
}
# Commands of main.py that are only parsed, by a part of the command, each with the reason
PARSED_ONLY = {
    "--trainer.devices": "needs several processes; tests/training covers it",
    "--folds": "trains five networks; tests/report trains fewer",
    "--unknown_class": "trains two networks; tests/report trains one",
    "--votes": "needs votes; tests/report has some",
    "--review": "serves until it is stopped; tests/space/test_review.py opens the page",
    "--data.decisions": "needs a review; tests/data/test_decisions.py covers it",
    "--compare runs/own_images": "needs two runs; another comparison is run",
    "--lr_find true": "runs lr_find, which is tested separately, and then an ordinary run",
}
# Options of programs other than main.py
FOREIGN_OPTIONS = {"--samples_per_plugin", "--node_rank", "--ntasks-per-node", "--nodes", "--quick", "--folder"}

QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
ONE_BATCH = ["--trainer.fast_dev_run", "1", "--trainer.accelerator", "cpu", "--data.num_workers", "0"]
ONE_BATCH += ["--data.batch_size", "16"]
TINY = ["--model.net", "TinyNet", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", *QUIET]
VALIDATED = {"mine.yaml", "pictures.yaml"}  # their callbacks need validation, which other runs skip
OWN_NETWORK = {"my_network.yaml", "pictures.yaml"}  # they need a network other than TinyNet
# Runs whose checkpoints other commands read
TRAINED = (
    ["fit", "--config", "configs/quickstart.yaml"],
    ["fit", "--config", "configs/own_images.yaml", "--data.root", "DIR"],
)


class Block(NamedTuple):
    """A code block: its page, language and text."""

    page: Path
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file to save the block to, if its first line names one."""
        found = re.match(r"# ([\w.]+\.(?:yaml|py))$", self.text.partition("\n")[0])
        return found[1] if found else None


def code_blocks() -> Iterator[Block]:
    for page in PAGES:
        for language, text in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            yield Block(page, language, text)


BLOCKS = list(code_blocks())


def documented_commands() -> list[str]:
    """Return the unique commands of all bash blocks, without comments and redirections."""
    lines = [
        line
        for block in BLOCKS
        if block.language == "bash"
        for line in block.text.replace("\\\n", " ").splitlines()
        if line and not line.startswith("#")
    ]
    commands = [command.partition(" > ")[0] for line in lines for command in line.split(" && ")]
    return list(dict.fromkeys(" ".join(command.split()) for command in commands))


def main_arguments(command: str) -> list[str] | None:
    """Return the arguments that a command passes to main.py; None if it runs another program."""
    words = shlex.split(command)
    return words[words.index("main.py") + 1 :] if "main.py" in words else None


COMMAND_LINES = documented_commands()
MAIN_COMMANDS = [
    command for command in COMMAND_LINES if main_arguments(command) and not command.startswith(tuple(NOT_RUN))
]
USED_FILES = {word for command in COMMAND_LINES for word in shlex.split(command) if word.endswith(".yaml")}
UNUSED_YAML = [block for block in BLOCKS if block.language == "yaml" and block.file not in USED_FILES]


def run(*args: str) -> int:
    """Run main.py's main(); return the exit status."""
    try:
        return main(list(args))
    except SystemExit as end:
        return int(end.code or 0)


def write_images(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")


def read_small_cifar(self: CIFAR10, train: bool) -> ImageTensors:
    labels = torch.arange(100) % 10
    return ImageTensors(torch.zeros(100, 3, 32, 32, dtype=torch.uint8), labels)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what the documentation assumes: configs, images, files from code blocks and trained runs."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "configs").symlink_to(ROOT / "configs")
    for block in BLOCKS:
        if block.file:
            (folder / block.file).write_text(block.text)
    for split, count in (("train", 10), ("test", 4)):
        for name in ("cat", "dog"):
            write_images(folder / "DIR" / split / name, count)
    write_images(folder / "DIR" / "other", 4)
    write_images(folder / "folder_of_photos", 2)
    Image.new("RGB", (40, 30), "gray").save(folder / "photo.jpg")
    rows = [f"{file.relative_to(folder)},{file.parent.name}" for file in (folder / "DIR" / "train").rglob("*.png")]
    (folder / "labels.csv").write_text("\n".join(["file,label", *rows]))
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        for args in TRAINED:
            assert run(*args, *TINY) == 0
    shutil.copytree(folder / "runs/quickstart/version_0", folder / "runs/quickstart/version_1")
    return folder


@pytest.fixture
def here(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to the workspace, and make my_file.py importable."""
    monkeypatch.chdir(workspace)
    monkeypatch.syspath_prepend(workspace)
    monkeypatch.setattr(CIFAR10, "_read", read_small_cifar)
    return workspace


def parse_only(args: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Parse the options of a command with its real parser, without running it."""
    path = COMMANDS[args[0]].function
    if path is None:
        return run(*args, "--print_config")
    module, _, name = path.rpartition(".")
    function = getattr(importlib.import_module(module), name)
    monkeypatch.setattr(f"{module}.{name}", functools.wraps(function)(lambda **_: None))
    return run(*args)


def settings_for(args: list[str]) -> list[str]:
    """Return the options that make a command fast."""
    command, options = args[0], set(args)
    if command in ("validate", "test") or (command == "fit" and "--ckpt_path" in options):
        return QUIET
    if command == "lr_find":
        return [*TINY, "--num_training", "20"]
    if command == "report" and "--compare" not in options:
        return ["--robustness_images", "0", "--faithfulness_images", "0"]
    if command == "export" and "--push" in options:  # never upload, even if the documented command does
        return ["--dry_run", "true"]
    if command != "fit" or any("help" in option for option in options):
        return []
    if "--resume" in options:
        return TINY
    network = [] if OWN_NETWORK & options else ["--model.net", "TinyNet"]
    return [*ONE_BATCH, *network, *QUIET, "--data.val_fraction", "0.2" if VALIDATED & options else "0"]


@pytest.mark.parametrize("command", MAIN_COMMANDS)
def test_documented_command_works(command: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = main_arguments(command)
    assert args is not None
    if args in TRAINED:
        return  # run by the workspace fixture
    if any(part in command for part in PARSED_ONLY):
        assert parse_only(args, monkeypatch) == 0
        return
    if args[0] == "demo":  # serves until it is stopped
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess((), 0))
    assert run(*args, *settings_for(args)) == 0


def test_every_command_is_either_tested_or_listed_with_a_reason() -> None:
    others = [command for command in COMMAND_LINES if command not in MAIN_COMMANDS]
    assert [command for command in others if not command.startswith(tuple(NOT_RUN))] == []
    assert [start for start in NOT_RUN if not any(command.startswith(start) for command in others)] == []
    assert [part for part in PARSED_ONLY if not any(part in command for command in MAIN_COMMANDS)] == []
    assert len(MAIN_COMMANDS) > 25


def test_options_in_the_tables_are_valid(here: Path) -> None:
    """Parse the options of fit in the tables of docs/training.md, all at once."""
    cells = re.findall(r"\| `(--[^`]+ [^`]+)` \|", (ROOT / "docs" / "training.md").read_text())
    assert len(cells) > 5
    options = [word for cell in cells for word in shlex.split(cell)]
    assert run("fit", "--config", "configs/quickstart.yaml", *options, "--print_config") == 0


def test_setup_takes_exactly_two_commands() -> None:
    first = next(block for block in BLOCKS if block.page.name == "README.md" and block.language == "bash")
    assert first.text.splitlines() == SETUP


@pytest.mark.parametrize("block", UNUSED_YAML, ids=lambda block: f"{block.page.name}:{block.file}")
def test_documented_yaml_is_valid(block: Block, here: Path) -> None:
    Path("documented.yaml").write_text(block.text)
    assert run("fit", "--config", "configs/quickstart.yaml", "--config", "documented.yaml", "--print_config") == 0


def test_documented_calls_match_the_api() -> None:
    """Compare docs/space.md with the methods of Api; tests/space call them."""
    [api] = [node for node in ast.parse((ROOT / "space/app/api.py").read_text()).body if isinstance(node, ast.ClassDef)]
    parameters = {
        f"/{method.name}": [argument.arg for argument in method.args.args if argument.arg != "self"]
        for method in api.body
        if isinstance(method, ast.FunctionDef) and not method.name.startswith("_")
    }
    rows = re.findall(r"^\| `(/\w+)` \|([^|]*)\|", (ROOT / "docs/space.md").read_text(), re.MULTILINE)
    assert {endpoint: re.findall(r"`(\w+)`", cell) for endpoint, cell in rows} == parameters
    [block] = [block for block in BLOCKS if block.file == "api.py"]
    calls = [
        node
        for node in ast.walk(ast.parse(block.text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "predict"
    ]
    assert len(calls) == len(parameters)
    for call in calls:
        options = {str(keyword.arg): keyword.value for keyword in call.keywords}
        known = parameters[ast.literal_eval(options.pop("api_name"))]
        assert options.keys() <= set(known[len(call.args) :])


def test_documented_methods_of_evaluation_callbacks_exist() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/extending.md").read_text(), re.MULTILINE)
    assert EvaluationCallback.__abstractmethods__ <= set(rows) <= set(dir(EvaluationCallback))


def known_options(capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Return all options of main.py."""
    for args in (
        ["fit", "--help_all"],
        ["lr_find", "--help_all"],
        ["fit", "--data.help", "ClassFolders"],
        ["audit", "--help"],
    ):
        run(*args)
    options = {"--allow_import", "--help", "--help_all", *re.findall(r"--[\w.]+", capsys.readouterr().out)}
    for command in COMMANDS.values():
        if command.function:
            module, _, name = command.function.rpartition(".")
            function = getattr(importlib.import_module(module), name)
            options |= {f"--{argument}" for argument in inspect.signature(function).parameters}
    return options


def test_every_option_in_the_text_exists(capsys: pytest.CaptureFixture[str]) -> None:
    known = known_options(capsys) | FOREIGN_OPTIONS
    for page in PAGES:
        if page.name == "CONTRIBUTING.md":
            continue
        prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        named = {
            option.rstrip("+")
            for code in re.findall(r"`([^`\n]+)`", prose)
            for option in re.findall(r"--[\w.+-]+", code)
        }
        assert named <= known, f"{page.name} documents {sorted(named - known)}"


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in heading_anchors(file), f"{page.name} links to {target}"


def heading_anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_index_links_to_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"({page.name})" not in index] == ["README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_contains_a_machine_path(page: Path) -> None:
    assert re.findall(r"(?<![\w.~])/(?:tmp|root|work|home)/\S*", page.read_text()) == []


def test_pictures_are_small() -> None:
    pictures = list((ROOT / ".github").glob("*.png"))
    assert pictures
    assert [picture.name for picture in pictures if picture.stat().st_size > 400_000] == []
