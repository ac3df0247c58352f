"""Import rules, style, static checks, pinned dependencies and licenses."""

import importlib.metadata
import re
import subprocess
import sys
import sysconfig
import time
import tomllib

import pytest

from tests.support.program import ROOT
from tests.support.source import imports

FRAMEWORKS = {"lightning", "tensorboard", "gradio", "torchmetrics", "albumentations", "jsonargparse"}
PARTS = {"callbacks", "space", "report", "main", "benchmarks", "tests"}
# Imports that are forbidden in each folder; CONTRIBUTING.md lists what is allowed
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


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_folders_do_not_import_forbidden_modules(folder: str) -> None:
    files = list((ROOT / folder).rglob("*.py"))
    assert len(files) > 2
    for file in files:
        violations = {
            name
            for name in imports(file)
            for module in FORBIDDEN[folder]
            if name == module or name.startswith(f"{module}.")
        }
        assert not violations, f"{file.relative_to(ROOT)} must not import {', '.join(sorted(violations))}"


FOLDERS = ("cifar_lit", "callbacks", "space", "report")
SOURCES = [ROOT / "main.py", *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))]
COMPAT = {"cifar_lit/training/lightning_compat.py", "cifar_lit/cli/jsonargparse_compat.py"}
# Words that made earlier prose read as translated
UNIDIOMATIC = re.compile(
    r"\b(judged|judges|judging|told|tells|lacks|anew|rightly|whyever|at hand|of before|none of the kind)\b", re.I
)


def test_private_attributes_of_libraries_are_used_only_in_the_compat_files() -> None:
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
            assert not UNIDIOMATIC.search(line), f"{file.relative_to(ROOT)}:{number}: {line.strip()}"


def test_pyplot_is_never_imported() -> None:  # because of its global state
    for file in [*ROOT.glob("cifar_lit/**/*.py"), *ROOT.glob("callbacks/**/*.py"), *ROOT.glob("space/**/*.py")]:
        assert "matplotlib.pyplot" not in imports(file), file


def test_every_picture_and_config_named_in_the_readme_exists() -> None:
    text = (ROOT / "README.md").read_text()
    named = re.findall(r"\]\(([^)#]+)\)|(configs/\w+\.yaml)", text)
    files = {first or second for first, second in named}
    assert len(files) > 5
    for file in files:
        assert (ROOT / file).is_file(), file


def test_help_does_not_import_heavy_packages() -> None:
    """Heavy packages are imported lazily. Only the imports are tested; a failure also reports the time."""
    code = (
        "import sys, main\n"
        "try: main.main(['fit', '--help_all'])\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    start = time.monotonic()
    completed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    modules = set(completed.stderr.split())
    heavy = {"albumentations", "gradio", "pytorch_grad_cam", "sklearn.model_selection", "timm"} & modules
    assert not heavy, f"imported for --help: {heavy} ({time.monotonic() - start:.1f} s)"


@pytest.mark.parametrize(
    "check",
    [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]],
    ids=lambda check: " ".join(check),
)
def test_static_checks_pass(check: list[str]) -> None:
    completed = subprocess.run([sys.executable, "-m", *check], cwd=ROOT, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr


def test_requirements_contain_hashes_for_exactly_the_pinned_versions() -> None:
    text = (ROOT / "requirements.txt").read_text()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pins = [*settings["project"]["dependencies"], *settings["dependency-groups"]["dev"]]
    pins += settings["tool"]["uv"]["constraint-dependencies"]
    pinned = dict(re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([^ ;\n]+)", "\n".join(pins), re.MULTILINE))
    hashed = re.findall(r"^([\w.-]+)==([^ ;\\]+).*?\n((?:    --hash=sha256:[0-9a-f]{64}.*\n)+)", text, re.MULTILINE)
    assert len(hashed) == len(re.findall(r"^\w", text, re.MULTILINE)) > 100
    assert {name: version for name, version, _ in hashed if pinned.get(name) != version} == {}
    assert "://" not in text
    assert pinned["lightning"] not in ("2.6.2", "2.6.3")  # malicious releases


def test_licenses_of_all_dependencies_are_compatible_with_mit() -> None:
    """Allow permissive licenses, the MPL (copyleft per file), and NVIDIA's for the libraries torch depends on."""
    allowed = r"MIT|BSD|Apache|PSF|Python Software|ISC|MPL|Mozilla|Zlib|NVIDIA|Unlicense|CC0|HPND|CNRI"
    installed = [sysconfig.get_path("purelib")]  # setuptools adds copies of others to the path
    for package in importlib.metadata.distributions(path=installed):
        metadata = package.metadata
        licenses = [metadata.get("License-Expression") or "", (metadata.get("License") or "")[:200]]
        licenses += [line for line in metadata.get_all("Classifier") or [] if line.startswith("License")]
        licenses += ["NVIDIA"] if metadata["Name"] == "cuda-toolkit" else []  # a metapackage of NVIDIA's other packages
        assert re.search(allowed, " ".join(licenses)), f"{metadata['Name']}: {licenses}"
        assert not re.search(r"\b(AGPL|GPL)|Affero", " ".join(licenses)), f"{metadata['Name']}: {licenses}"
