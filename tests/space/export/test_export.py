"""From a checkpoint to a Space: what is written, what it needs, and that it says what training said."""

import contextlib
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from cifar_lit.data.digits import Digits
from cifar_lit.errors import InputError
from cifar_lit.evaluation.result import OF_EACH_IMAGE, EvaluationResult
from cifar_lit.inference.bundle import read_bundle
from space.export.command import SHIPPED
from space.export.external_code import ExternalCode, find_external_code
from tests.support.images import write_class_folders
from tests.support.program import ROOT, TINY, Outcome
from tests.support.runs import events
from tests.support.source import imports

Program = Callable[..., Outcome]
TRAINING = {
    "lightning",
    "lightning_fabric",
    "tensorboard",
    "albumentations",
    "jsonargparse",
    "pytorch_lightning",
}


def export(program: Program, *args: object) -> str:
    outcome = program("export", "--output", "out", *args)
    assert outcome.status == 0, outcome.err
    return outcome.out


# What is written


def test_a_space_is_complete_and_holds_no_training_code(space: Path) -> None:
    files = [path for path in space.rglob("*") if path.is_file() and path.suffix != ".pyc"]  # another test has run it
    found = {str(path.relative_to(space)) for path in files}
    shipped = {
        str(file.relative_to(ROOT))
        for path in SHIPPED
        for file in ([ROOT / path] if path.endswith(".py") else (ROOT / path).rglob("*.py"))
    }
    assert len(shipped) > 30
    examples = {f"bundle/examples/example_{number}.png" for number in range(10)}
    bundle = {
        f"bundle/{name}" for name in ("recipe.json", "weights.safetensors", "metadata.json", "evaluation.safetensors")
    }
    assert found == shipped | examples | bundle | {"README.md", "app.py", "requirements.txt"}
    for file in space.rglob("*.py"):
        roots = {name.partition(".")[0] for name in imports(file)}
        assert not roots & TRAINING, file


def test_every_module_that_is_shipped_imports_only_what_is_shipped(space: Path) -> None:
    modules = {
        ".".join(file.relative_to(space).with_suffix("").parts).removesuffix(".__init__")
        for file in space.rglob("*.py")
        if file.name not in ("own_net.py", "own_parts.py")
    }
    assert len(modules) > 30
    code = f"import importlib\nfor name in {sorted(modules)}: importlib.import_module(name)"
    ended = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, '.')\n{code}"],
        cwd=space,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def test_it_answers_where_nothing_that_trains_is_installed(space: Path) -> None:
    """And without torchvision and the grad-cam library, which take seconds to import."""
    code = f"""
import sys, time
start = time.monotonic()
BLOCKED = {sorted(TRAINING | {"torchmetrics", "scipy", "torchvision", "pytorch_grad_cam", "sklearn", "cv2"})}
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
from pathlib import Path
from space.app.page import build
from space.app.loaded_bundle import LoadedBundle
shown = LoadedBundle.load(Path("bundle"), "about")
page = build(shown)
from space.app.service import ExplainOptions, classify, read_images
images = read_images(["bundle/examples/example_0.png"], (32, 32), "crop")
answer = classify(shown.network, images, ExplainOptions(1, "features", "gradcam"))
assert answer.logits.shape == (1, 10) and answer.explained[0].maps.max() > 0
assert not set(BLOCKED) & set(sys.modules), set(BLOCKED) & set(sys.modules)
print(f"{{time.monotonic() - start:.1f}} s")
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=space, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert re.fullmatch(r"\d+\.\d s\n", ended.stdout)


def test_the_front_matter_is_what_hugging_face_takes(space: Path) -> None:
    """By https://huggingface.co/docs/hub/spaces-config-reference."""
    text = (space / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    colors = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {front["colorFrom"], front["colorTo"]} <= colors
    assert front["sdk"] == "gradio"
    assert front["sdk_version"] == version("gradio")
    assert front["python_version"] == "3.12"
    assert (space / front["app_file"]).is_file()
    assert 0 < len(front["short_description"]) <= 60
    assert len(front["emoji"]) == 1
    assert front["title"] == "TinyNet on Digits"
    assert front["license"] == "mit"
    assert isinstance(front["pinned"], bool)
    assert all(isinstance(tag, str) for tag in front["tags"])


def test_the_requirements_are_pinned_as_they_are_here_but_for_torch(space: Path) -> None:
    lines = (space / "requirements.txt").read_text().splitlines()
    assert lines[0].startswith("torch>=2.8,<3")
    for line in lines[1:]:
        name, equals, pin = line.partition("==")
        assert (equals, pin) == ("==", version(name)), line
    needed = {name.partition(".")[0] for file in space.rglob("*.py") for name in imports(file)}
    own = {"space", "cifar_lit", "callbacks", "pytorch_grad_cam"}  # the last for methods that a Space does not offer
    packages = {re.split("[=>]", line)[0] for line in lines} | {"PIL"}
    assert needed - own - set(sys.stdlib_module_names) <= packages


def test_the_card_tells_the_results_of_the_evaluation(space: Path) -> None:
    text = (space / "README.md").read_text()
    judged = EvaluationResult.load(space / "bundle" / "evaluation.safetensors")
    assert judged.images == 359
    assert f"**{judged.accuracy:.2%}** of 359 test images are right ({judged.errors} mistakes)" in text
    assert f"cross-entropy {judged.loss:.4f}" in text
    assert "class_path: cifar_lit.models.TinyNet" in text
    assert str(ROOT) not in text


def test_the_curves_are_those_of_the_event_files(space: Path) -> None:
    history = json.loads((space / "bundle" / "metadata.json").read_text())["history"]
    run = space.parent / "runs" / "quickstart" / "version_0"
    for split in ("train", "val"):
        expected = [[event.step, event.value] for event in events(run / split).Scalars("loss")]
        assert history[f"{split}/loss"] == expected
    assert len(history["lr"]) == 2


# That it says what training said


def test_logits_equal_those_of_validate(space: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """To 1e-5, where validate computes in float32 as the Space does."""
    from cifar_lit.training.classifier import Classifier

    seen: list[dict[str, torch.Tensor]] = []
    step = Classifier.validation_step

    def noting(self: Classifier, *args: Any) -> dict[str, torch.Tensor]:
        outputs = step(self, *args)
        seen.append(outputs)
        return outputs

    monkeypatch.setattr(Classifier, "validation_step", noting)
    checkpoint = space.parent / "runs" / "quickstart" / "version_0" / "checkpoints" / "last.ckpt"
    with contextlib.chdir(space.parent):
        assert program("validate", "--ckpt_path", checkpoint, "--trainer.precision", "32-true").status == 0
    logits = torch.cat([part["logits"] for part in seen])
    rows = torch.cat([part["indices"] for part in seen])
    images = Digits().load("train")
    assert images is not None
    assert len(rows) == 144
    shown = read_bundle(space / "bundle")
    assert torch.allclose(shown.logits(images.pixels[rows]), logits, atol=1e-5)

    from space.app.network import Network
    from space.app.service import classify, read_images

    for place in range(10):  # and through a file, as a visitor would
        Image.fromarray(images.pixels[rows[place]].permute(1, 2, 0).numpy()).save(f"{place}.png")
    read = read_images([f"{place}.png" for place in range(10)], (32, 32), "crop")
    assert np.allclose(classify(Network(shown), read).logits, logits[:10], atol=1e-5)


def test_the_counts_are_those_of_test(space: Path, program: Program) -> None:
    run = space.parent / "runs" / "quickstart" / "version_0"
    with contextlib.chdir(space.parent):
        outcome = program("test", "--ckpt_path", run / "checkpoints" / "last.ckpt", "--trainer.precision", "32-true")
    assert outcome.status == 0, outcome.err
    judged = EvaluationResult.load(space / "bundle" / "evaluation.safetensors")
    accuracy = events(run / "test").Scalars("accuracy")[-1].value
    assert judged.accuracy == pytest.approx(accuracy, abs=1e-6)
    assert judged.loss == pytest.approx(events(run / "test").Scalars("loss")[-1].value, abs=1e-5)
    with open(run / "misclassified_test.csv") as file:
        worst = list(csv.DictReader(file))
    assert len(worst) == 20
    of_file = {(int(row["index"]), row["true"], row["predicted"]) for row in worst}
    names = Digits().class_names
    kept = zip(judged.indices.tolist(), judged.labels.tolist(), judged.predictions.tolist(), strict=True)
    assert of_file <= {(index, names[true], names[said]) for index, true, said in kept}


# Where data lack, and of other networks


def trained_on_folders(program: Program, *args: object) -> Path:
    root = write_class_folders(Path("images"), ("cat", "dog"), train=20, test=6)
    outcome = program("fit", "--config", ROOT / "configs" / "own_images.yaml", *TINY, "--data.root", root, *args)
    assert outcome.status == 0, outcome.err
    return sorted(Path("runs/own_images").iterdir())[-1]


def test_without_the_data_the_space_is_written_without_what_follows_from_them(program: Program) -> None:
    trained_on_folders(program)
    shutil.rmtree("images")
    out = export(program, "--ckpt_path", "best")
    assert len([line for line in out.splitlines() if line.startswith("Without examples, mistakes")]) == 1
    assert not Path("out/bundle/evaluation.safetensors").exists()
    assert json.loads(Path("out/bundle/metadata.json").read_text())["examples"] == []
    code = f"{LOADING}\nfrom space.app.page import build\nbuild(shown)"
    ended = subprocess.run([sys.executable, "-c", code], cwd="out", capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("count", [0, 1])
def test_a_network_with_hardly_a_mistake_has_its_page(space: Path, count: int) -> None:
    """A good network is the one that is shown."""
    shutil.copytree(space, "out")
    judged = EvaluationResult.load(Path("out/bundle/evaluation.safetensors"))
    right, wrong = ((judged.predictions == judged.labels) == said for said in (True, False))
    rows = torch.cat([right.nonzero()[:, 0], wrong.nonzero()[:count, 0]])
    kept = {name: getattr(judged, name)[rows] for name in OF_EACH_IMAGE}
    counts = torch.zeros_like(judged.counts)
    counts.index_put_((kept["labels"], kept["logits"].argmax(1)), torch.tensor(1), accumulate=True)
    replace(judged, counts=counts, **kept).save(Path("out/bundle/evaluation.safetensors"))
    code = f"{LOADING}\nfrom space.app.page import build\nbuild(shown)\n"
    code += "from space.app.tabs.misclassified import mistakes\n"
    code += "rows, status, pictures = mistakes(shown, 12)\nprint(len(rows), len(pictures), status)"
    ended = subprocess.run([sys.executable, "-c", code], cwd="out", capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"{count} {count} **{'1 of 1 mistake' if count else 'No mistakes'}"), ended.stdout


def test_images_may_lie_elsewhere(program: Program) -> None:
    trained_on_folders(program)
    Path("images/test").rename("elsewhere")
    shutil.rmtree("images")
    export(program, "--ckpt_path", "best", "--images", "elsewhere")
    judged = EvaluationResult.load(Path("out/bundle/evaluation.safetensors"))
    assert judged.counts.sum(1).tolist() == [6, 6]
    assert json.loads(Path("out/bundle/metadata.json").read_text())["title"].startswith("TinyNet")


def test_a_checkpoint_by_itself_exports_too(program: Program) -> None:
    run = trained_on_folders(program)
    shutil.copyfile(run / "checkpoints" / "best.ckpt", "alone.ckpt")
    out = export(program, "--ckpt_path", "alone.ckpt")
    assert "does not lie in its run's folder" in out
    assert read_bundle(Path("out/bundle")).recipe.class_names == ["cat", "dog"]


LOADING = """
import app
from pathlib import Path
from space.app.loaded_bundle import LoadedBundle
shown = LoadedBundle.load(Path("bundle"), "", app.NETWORKS)
"""
OWN = """
import math
import torch
from own_parts import Block


class Net(torch.nn.Module):
    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.block, self.head = Block(), torch.nn.Linear(4, num_classes)

    def forward(self, images):
        return self.head(self.block(images).mean((2, 3)))
"""
PARTS = """
import torch


class Block(torch.nn.Conv2d):
    def __init__(self) -> None:
        super().__init__(3, 4, 3)
"""


def test_a_network_of_the_users_own_is_copied_with_what_it_imports(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("own_net.py").write_text(OWN)
    Path("own_parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(os.getcwd())
    trained_on_folders(program, "--model.net", "own_net.Net", "--allow_import", "own_net")
    export(program, "--ckpt_path", "last", "--allow_import", "own_net")
    assert Path("out/own_net.py").read_text() == OWN
    assert Path("out/own_parts.py").read_text() == PARTS
    assert "NETWORKS = ('own_net.Net',)" in Path("out/app.py").read_text()
    code = f"{LOADING}\nprint(shown.network.layers)"
    os.rename("own_net.py", "hidden.py")
    ended = subprocess.run([sys.executable, "-c", code], cwd="out", capture_output=True, text=True, check=False)
    assert "'block': (4, 10, 10)" in ended.stdout, ended.stderr
    for module in ("own_net", "own_parts"):
        del sys.modules[module]


def test_a_network_in_a_package_of_ones_own_is_refused_in_one_line(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("own_package").mkdir()
    Path("own_package/__init__.py").write_text("")
    Path("own_package/net.py").write_text(
        OWN.replace("from own_parts import Block", "from torch.nn import Identity as Block").replace(
            "Linear(4", "Linear(3"
        )
    )
    monkeypatch.syspath_prepend(os.getcwd())
    trained_on_folders(program, "--model.net", "own_package.net.Net", "--allow_import", "own_package")
    outcome = program("export", "--ckpt_path", "last", "--output", "out", "--allow_import", "own_package")
    assert outcome.status == 2
    assert "own_package.net is neither from an installed package nor a single file" in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not Path("out").exists()


def test_torchvisions_networks_bring_their_requirement_and_fetch_nothing(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_on_folders(program, "--model.net", "torchvision.models.squeezenet1_1", "--data.image_size", "32")
    checkpoint = torch.load("runs/own_images/version_0/checkpoints/last.ckpt", weights_only=True)
    net = checkpoint["hyper_parameters"]["net"]
    net.setdefault("init_args", {})["weights"] = "DEFAULT"  # which would be fetched when it is built
    torch.save(checkpoint, "runs/own_images/version_0/checkpoints/last.ckpt")
    monkeypatch.setenv("TORCH_HOME", "nowhere")
    export(program, "--ckpt_path", "last")
    assert "torchvision" in Path("out/requirements.txt").read_text().splitlines()
    assert not Path("nowhere").exists()
    recipe = json.loads(Path("out/bundle/recipe.json").read_text())
    assert "weights" not in recipe["net"].get("init_args", {}) | recipe["net"].get("dict_kwargs", {})
    assert read_bundle(Path("out/bundle"), ["torchvision.models.squeezenet1_1"]).logits(
        torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    ).shape == (1, 2)


def test_a_package_becomes_a_pinned_requirement_and_torch_none() -> None:
    found = find_external_code({"class_path": "timm.create_model", "init_args": {"model_name": "resnet18"}})
    assert (found.networks, found.files) == (["timm.create_model"], [])
    assert found.requirements == [f"timm=={version('timm')}"]
    own = {"class_path": "cifar_lit.models.ResNet9", "init_args": {}}
    assert find_external_code(own) == ExternalCode([], [], [])
    assert find_external_code({"class_path": "torch.nn.Linear"}).requirements == []
    with pytest.raises(InputError, match=r"cifar_lit\.training\.classifier, which is no part of a Space"):
        find_external_code({"class_path": "cifar_lit.training.classifier.Classifier"})


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("missing", "there is no file run.ckpt"),
        ("truncated", "is cut short or damaged, or is not a checkpoint of this program"),
        ("foreign", "is not a checkpoint of this program"),
        ("another network's", "cannot be built"),
        ("of a stranger's network", "nowhere.Net is code from outside"),
    ],
)
def test_a_bad_checkpoint_is_refused_in_one_line_and_leaves_no_folder(
    program: Program, space: Path, harm: str, message: str
) -> None:
    whole = space.parent / "runs/quickstart/version_0/checkpoints/last.ckpt"
    checkpoint = torch.load(whole, weights_only=True)
    settings = checkpoint["hyper_parameters"]
    if harm == "another network's":
        settings["net"] = {"class_path": "cifar_lit.models.ResNet9", "init_args": {"num_classes": 10}}
    if harm == "of a stranger's network":
        settings["net"] = {"class_path": "nowhere.Net", "init_args": {}}
    if harm == "foreign":
        checkpoint = {"weights": torch.zeros(3)}
    if harm != "missing":
        torch.save(checkpoint, "run.ckpt")
    if harm == "truncated":
        Path("run.ckpt").write_bytes(Path("run.ckpt").read_bytes()[:5000])
    for command in ("export", "demo"):
        outcome = program(command, "--ckpt_path", "run.ckpt", "--output", "out")
        assert outcome.status == 2
        assert re.search(message, outcome.err), outcome.err
        assert len(outcome.err.splitlines()) == 1
    assert {path.name for path in Path().iterdir()} <= {"run.ckpt", "cache"}


def test_an_export_that_is_cut_off_leaves_no_folder(
    program: Program, space: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = space.parent / "runs/quickstart/version_0/checkpoints/last.ckpt"

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(EvaluationResult, "save", full)
    outcome = program("export", "--ckpt_path", checkpoint, "--output", "out")
    assert outcome.status == 2
    assert "No space left on device" in outcome.err
    assert {path.name for path in Path().iterdir()} <= {"cache"}


# The folder, and Hugging Face


def test_a_folder_that_holds_something_else_is_left_alone(program: Program, space: Path) -> None:
    checkpoint = space.parent / "runs/quickstart/version_0/checkpoints/last.ckpt"
    Path("out").mkdir()
    Path("out/thesis.txt").write_text("mine")
    outcome = program("export", "--ckpt_path", checkpoint, "--output", "out")
    assert outcome.status == 2
    assert "is not empty, and no exported Space" in outcome.err
    assert [path.name for path in Path("out").iterdir()] == ["thesis.txt"]


def test_an_export_is_renewed_in_place(program: Program, space: Path) -> None:
    checkpoint = space.parent / "runs/quickstart/version_0/checkpoints/last.ckpt"
    shutil.copytree(space, "out")
    Path("out/bundle/stale.png").write_text("old")
    Path("out/.git").mkdir()
    export(program, "--ckpt_path", checkpoint, "--title", "Mine: a <b>title</b>", "--mistakes", 3)
    assert not Path("out/bundle/stale.png").exists()
    assert Path("out/.git").is_dir()
    assert "# Mine: a &lt;b&gt;title&lt;/b&gt;" in Path("out/README.md").read_text()


def test_pushing_is_a_dry_run_unless_told_otherwise(
    program: Program, space: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    calls: list[tuple[str, dict[str, Any]]] = []

    class Api:
        def create_repo(self, repo: str, **options: Any) -> None:
            calls.append((repo, options))

        def upload_folder(self, **options: Any) -> Any:
            calls.append(("upload", options))
            return type("Commit", (), {"oid": "abc123"})

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    checkpoint = space.parent / "runs/quickstart/version_0/checkpoints/last.ckpt"
    out = export(program, "--ckpt_path", checkpoint, "--push", "me/digits")
    assert re.search(r"\d+  bundle/weights\.safetensors", out)
    assert "This would upload" in out
    assert not calls

    outcome = program(
        "export", "--ckpt_path", checkpoint, "--output", "out", "--push", "me/digits", "--dry_run", "false"
    )
    assert outcome.status == 2
    assert "there is no login to Hugging Face" in outcome.err
    assert not calls

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_secret")
    Path("out/notes.txt").write_text("not part of it")
    Path("out/secret.py").write_text("not part of it")
    out = export(program, "--ckpt_path", checkpoint, "--push", "me/digits", "--dry_run", "false")
    assert "(abc123)" in out
    assert "hf_secret" not in out
    (repo, created), (_, uploaded) = calls
    assert (repo, created["repo_type"], created["space_sdk"], created["exist_ok"]) == (
        "me/digits",
        "space",
        "gradio",
        True,
    )
    assert uploaded["repo_id"] == "me/digits"
    present = {str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file()}
    assert set(uploaded["allow_patterns"]) == present - {"notes.txt", "secret.py"}


@pytest.mark.parametrize("repo", ["digits", "a/b/c", "me/ digits", "https://huggingface.co/me/x"])
def test_a_wrong_name_of_a_space_is_refused(program: Program, space: Path, repo: str) -> None:
    checkpoint = space.parent / "runs/quickstart/version_0/checkpoints/last.ckpt"
    outcome = program("export", "--ckpt_path", checkpoint, "--output", "out", "--push", repo)
    assert outcome.status == 2
    assert "must be user/name" in outcome.err
