"""Who may import whom, and that everything is checked by the same command."""

import importlib.metadata
import re
import subprocess
import sys
import time
import tomllib

import pytest

from tests.support.program import ROOT
from tests.support.source import imports

FRAMEWORKS = {"lightning", "tensorboard", "gradio", "torchmetrics", "albumentations", "jsonargparse"}
PARTS = {"callbacks", "space", "report", "main", "benchmarks", "tests"}
# For each folder, what it must not import (CONTRIBUTING.md says what it may)
FORBIDDEN = {
    "cifar_lit/models": FRAMEWORKS | PARTS | {f"cifar_lit.{name}" for name in ("cli", "data", "training", "inference")},
    "cifar_lit/evaluation": FRAMEWORKS - {"torchmetrics"}
    | PARTS
    | {f"cifar_lit.{name}" for name in ("cli", "data", "training", "inference")},
    "callbacks/rendering": FRAMEWORKS | {"cifar_lit", "space", "report", "main", "benchmarks", "tests"},
    "cifar_lit/inference": FRAMEWORKS | PARTS | {f"cifar_lit.{name}" for name in ("cli", "data", "training")},
    "cifar_lit": PARTS | {"gradio"},
    "callbacks": {"cifar_lit.training", "cifar_lit.cli", "space", "report", "main", "benchmarks", "tests", "gradio"},
    "space/app": (FRAMEWORKS - {"gradio"}) | {f"cifar_lit.{name}" for name in ("cli", "data", "training")},
    "space": {"main", "benchmarks", "tests", "report"},
    "report": {"main", "benchmarks", "tests", "gradio"},
}


@pytest.mark.parametrize("part", FORBIDDEN)
def test_nothing_is_imported_across_a_wall(part: str) -> None:
    files = list((ROOT / part).rglob("*.py"))
    assert len(files) > 2
    for file in files:
        crossing = {
            name for name in imports(file) for wall in FORBIDDEN[part] if name == wall or name.startswith(f"{wall}.")
        }
        assert not crossing, f"{file.relative_to(ROOT)} must not import {', '.join(sorted(crossing))}"


FOLDERS = ("cifar_lit", "callbacks", "space", "report")
SOURCES = [ROOT / "main.py", *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))]
COMPAT = {"cifar_lit/training/lightning_compat.py", "cifar_lit/cli/jsonargparse_compat.py"}
# Words of the old house style, see CONTRIBUTING.md
FOREIGN = re.compile(
    r"\b(judged|judges|judging|told|tells|lacks|anew|rightly|whyever|at hand|of before|none of the kind)\b", re.I
)


def test_private_attributes_of_libraries_are_used_in_the_compat_files_only() -> None:
    private = re.compile(r"\._[a-z_]+_connector|fset|_Loop|patch\.object")
    found = {str(file.relative_to(ROOT)) for file in SOURCES if private.search(file.read_text())}
    assert found <= COMPAT


def test_no_source_file_is_longer_than_300_lines() -> None:
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in SOURCES}
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_tests_import_neither_tests_nor_benchmarks() -> None:
    for file in (ROOT / "tests").rglob("*.py"):
        others = {name for name in imports(file) if name.startswith(("tests.", "benchmarks"))}
        assert all(name.startswith("tests.support") for name in others), f"{file.relative_to(ROOT)}: {others}"


@pytest.mark.parametrize("folder", [*FOLDERS, "tests", "benchmarks", "docs", "configs", "."])
def test_prose_is_plain_english(folder: str) -> None:
    files = (ROOT / folder).glob("*.*") if folder == "." else (ROOT / folder).rglob("*.*")
    for file in files:
        if file.suffix not in (".py", ".md", ".yaml") or file.name in ("test_architecture.py", "test_docs.py"):
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            assert not FOREIGN.search(line), f"{file.relative_to(ROOT)}:{number}: {line.strip()}"


def test_pyplot_with_its_global_state_is_never_imported() -> None:
    for file in [*ROOT.glob("cifar_lit/**/*.py"), *ROOT.glob("callbacks/**/*.py"), *ROOT.glob("space/**/*.py")]:
        assert "matplotlib.pyplot" not in imports(file), file


def test_every_picture_and_config_that_the_readme_names_is_there() -> None:
    text = (ROOT / "README.md").read_text()
    named = re.findall(r"\]\(([^)#]+)\)|(configs/\w+\.yaml)", text)
    files = {first or second for first, second in named}
    assert len(files) > 5
    for file in files:
        assert (ROOT / file).is_file(), file


def test_help_costs_little_more_than_lightnings_own_command_line() -> None:
    """Heavy packages are imported when they are used; seconds are told in the failure, the list is what is tested."""
    code = (
        "import sys, main\n"
        "try: main.main(['fit', '--help'])\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    start = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    modules = set(ended.stderr.split())
    heavy = {"albumentations", "gradio", "pytorch_grad_cam", "sklearn.model_selection", "timm"} & modules
    assert not heavy, f"imported for --help: {heavy} ({time.monotonic() - start:.1f} s)"


@pytest.mark.parametrize(
    "check",
    [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]],
    ids=lambda check: " ".join(check),
)
def test_static_checks_pass(check: list[str]) -> None:
    ended = subprocess.run([sys.executable, "-m", *check], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_hashes_are_kept_of_the_versions_that_are_pinned_and_of_no_other() -> None:
    text = (ROOT / "requirements.txt").read_text()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pins = [*settings["project"]["dependencies"], *settings["dependency-groups"]["dev"]]
    pins += settings["tool"]["uv"]["constraint-dependencies"]
    pinned = dict(re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([^ ;\n]+)", "\n".join(pins), re.MULTILINE))
    hashed = re.findall(r"^([\w.-]+)==([^ ;\\]+).*?\n((?:    --hash=sha256:[0-9a-f]{64}.*\n)+)", text, re.MULTILINE)
    assert len(hashed) == len(re.findall(r"^\w", text, re.MULTILINE)) > 100
    assert {name: version for name, version, _ in hashed if pinned.get(name) != version} == {}
    assert "://" not in text
    assert pinned["lightning"] not in ("2.6.2", "2.6.3")  # which were malicious


def test_licences_of_all_packages_let_this_one_be_mit() -> None:
    """Permissive ones, MPL's (of a file that is changed), and NVIDIA's of the libraries that torch brings."""
    free = r"MIT|BSD|Apache|PSF|Python Software|ISC|MPL|Mozilla|Zlib|NVIDIA|Unlicense|CC0|HPND|CNRI"
    for package in importlib.metadata.distributions():
        metadata = package.metadata
        told = [metadata.get("License-Expression") or "", (metadata.get("License") or "")[:200]]
        told += [line for line in metadata.get_all("Classifier") or [] if line.startswith("License")]
        told += ["NVIDIA"] if metadata["Name"] == "cuda-toolkit" else []  # a list of NVIDIA's other packages
        assert re.search(free, " ".join(told)), f"{metadata['Name']}: {told}"
        assert not re.search(r"\b(AGPL|GPL)|Affero", " ".join(told)), f"{metadata['Name']}: {told}"
