"""Export of checkpoints: files, requirements, and results that match those of training."""

import contextlib
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from cifar_lit.data.digits import Digits
from cifar_lit.errors import InputError
from cifar_lit.evaluation.result import PER_IMAGE, EvaluationResult
from cifar_lit.inference.bundle import read_bundle
from cifar_lit.inference.images import Resizing, read_image
from cifar_lit.training.checkpointing.checkpoint_files import read_classifier
from space.app.loaded_bundle import LoadedBundle
from space.export.external_code import ExternalCode, find_external_code
from space.export.space_folder import SHIPPED
from tests.support.images import write_class_folders
from tests.support.program import ROOT, TINY, Outcome
from tests.support.runs import events, texts
from tests.support.source import imports

Program = Callable[..., Outcome]
TRAINING = {"lightning", "lightning_fabric", "pytorch_lightning", "tensorboard", "albumentations", "jsonargparse"}


def export(program: Program, *args: object) -> str:
    outcome = program("export", "--output", "out", *args)
    assert outcome.status == 0, outcome.err
    return outcome.out


def run_python(code: str, folder: Path) -> str:
    process = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout


def checkpoint_of(space: Path) -> Path:
    return space.parent / "runs/quickstart/version_0/checkpoints/last.ckpt"


# Files


def test_a_space_is_complete_and_contains_no_training_code(space: Path) -> None:
    files = [path for path in space.rglob("*") if path.is_file() and path.suffix != ".pyc"]  # .pyc: another test ran it
    found = {str(path.relative_to(space)) for path in files}
    shipped = {
        str(file.relative_to(ROOT))
        for path in SHIPPED
        for file in ([ROOT / path] if path.endswith(".py") else (ROOT / path).rglob("*.*"))
        if file.suffix != ".pyc"
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


def test_shipped_modules_import_only_shipped_modules(space: Path) -> None:
    modules = {
        ".".join(file.relative_to(space).with_suffix("").parts).removesuffix(".__init__")
        for file in space.rglob("*.py")
        if file.name not in ("own_net.py", "own_parts.py")
    }
    assert len(modules) > 30
    code = f"import importlib\nfor name in {sorted(modules)}: importlib.import_module(name)"
    run_python(code, space)


def test_a_space_works_without_training_packages(space: Path) -> None:
    """Torchvision and the grad-cam library are not needed either; they take seconds to import."""
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
loaded = LoadedBundle.load(Path("bundle"), "about")
page = build(loaded)
from space.app.service import ExplainOptions, classify
options = ExplainOptions(1, "features", "gradcam")
[image] = classify(loaded.network, ["bundle/examples/example_0.png"], options).images
assert image.logits.shape == (10,) and image.heatmaps[image.predicted].max() > 0
assert not set(BLOCKED) & set(sys.modules), set(BLOCKED) & set(sys.modules)
print(f"{{time.monotonic() - start:.1f}} s")
"""
    assert re.fullmatch(r"\d+\.\d s\n", run_python(code, space))


def test_a_space_needs_no_file_of_weights(
    fit: Callable[..., Path], program: Callable[..., Outcome], tmp_path: Path
) -> None:
    torch.save(timm.create_model("test_resnet").state_dict(), "weights.pth")
    net = ["--model.net", "timm.create_model", "--model.net.model_name", "test_resnet"]
    root = write_class_folders(Path("images"), size=(32, 32))
    data = ["--data", "ClassFolders", "--data.root", root, "--data.batch_size", 8]
    run = fit("timm", *data, *net, "--model.net.checkpoint_path", "weights.pth")
    Path("weights.pth").unlink()
    Image.new("RGB", (8, 8)).save("image.png")
    for command in (["predict", "image.png"], ["test"], ["export", "--output", "page"]):
        outcome = program(*command, "--ckpt_path", run / "checkpoints" / "best.ckpt")
        assert outcome.status == 0, outcome.err
    moved = shutil.move("page", tmp_path / "elsewhere")
    (run / "checkpoints" / "best.ckpt").unlink()
    code = "from cifar_lit.inference.bundle import read_bundle; from pathlib import Path; "
    code += "print(len(read_bundle(Path('bundle'), ['timm.create_model']).recipe.class_names))"
    assert run_python(code, Path(moved)) == "2\n"


def test_the_page_shows_the_heatmaps_measured_as_most_faithful_unless_the_user_chooses(
    space: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[list[str] | None] = []

    def select(net: nn.Module, inputs: Tensor, layers: list[str] | None, methods: Iterable[str]) -> tuple[str, str]:
        measured.append(layers)
        return (layers or ["features.0"])[0], list(methods)[-1]

    monkeypatch.setattr("space.export.evaluate.select_heatmap", select)
    for options, layer, method in (
        ([], "features.0", "layercam"),
        (["--method", "hirescam"], "features.0", "hirescam"),
        (["--layer", "features", "--method", "gradcam"], "features", "gradcam"),
    ):
        outcome = program("export", "--ckpt_path", checkpoint_of(space), "--output", "page", *options)
        assert outcome.status == 0, outcome.err
        network = LoadedBundle.load(Path("page", "bundle"), Path("page", "README.md").read_text()).network
        assert (network.layer, network.method) == (layer, method)
    assert measured == [None, None]  # nothing is measured if the user chooses both


def test_a_heatmap_method_must_work_for_the_network(space: Path, program: Callable[..., Outcome]) -> None:
    checkpoint = next(space.parent.glob("runs/*/*/checkpoints/last.ckpt"))
    outcome = program("export", "--ckpt_path", checkpoint, "--output", "out", "--method", "attention_rollout")
    assert outcome.status == 2
    assert "--method attention_rollout: the methods for this network are gradcam, gradcam++, hirescam" in outcome.err


def test_the_front_matter_is_valid_for_hugging_face(space: Path) -> None:
    """See https://huggingface.co/docs/hub/spaces-config-reference."""
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
    assert front["title"] == "quickstart"
    assert front["license"] == "mit"
    assert isinstance(front["pinned"], bool)
    assert all(isinstance(tag, str) for tag in front["tags"])


def test_requirements_are_pinned_to_the_installed_versions_except_torch(space: Path) -> None:
    lines = (space / "requirements.txt").read_text().splitlines()
    assert lines[0].startswith("torch>=2.8,<3")
    for line in lines[1:]:
        name, equals, pin = line.partition("==")
        assert (equals, pin) == ("==", version(name)), line
    needed = {name.partition(".")[0] for file in space.rglob("*.py") for name in imports(file)}
    own = {"space", "cifar_lit", "callbacks", "pytorch_grad_cam"}  # the last is for methods that a Space does not offer
    packages = {re.split("[=>]", line)[0] for line in lines} | {"PIL"}
    packages |= {"pillow_heif"}  # optional
    assert needed - own - set(sys.stdlib_module_names) <= packages


def test_the_model_card_contains_the_results_of_the_evaluation(space: Path) -> None:
    text = (space / "README.md").read_text()
    result = EvaluationResult.load(space / "bundle" / "evaluation.safetensors")
    assert result.images == 382
    assert f"**{result.accuracy:.2%}** of 382 test images are classified correctly ({result.errors} mistakes)" in text
    assert f"cross-entropy {result.loss:.4f}" in text
    assert "class_path: cifar_lit.models.TinyNet" in text
    assert str(ROOT) not in text


def test_the_curves_match_those_in_the_event_files(space: Path) -> None:
    history = json.loads((space / "bundle" / "metadata.json").read_text())["history"]
    run = space.parent / "runs" / "quickstart" / "version_0"
    for split in ("train", "val"):
        expected = [[event.step, event.value] for event in events(run).Scalars(f"0_curves/loss/{split}")]
        assert history[f"{split}/loss"] == expected
    assert [step for step, _ in history["lr"]] == [10]


# Results match those of training


def test_logits_match_those_of_validate(space: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare to within 1e-5, with validate in float32 like the Space."""
    from cifar_lit.training.classifier import Classifier

    recorded: list[dict[str, torch.Tensor]] = []
    step = Classifier.validation_step

    def recording(self: Classifier, *args: Any) -> dict[str, torch.Tensor]:
        outputs = step(self, *args)
        recorded.append(outputs)
        return outputs

    monkeypatch.setattr(Classifier, "validation_step", recording)
    with contextlib.chdir(space.parent):
        assert program("validate", "--ckpt_path", checkpoint_of(space)).status == 0
    logits = torch.cat([outputs["logits"] for outputs in recorded])
    rows = torch.cat([outputs["indices"] for outputs in recorded])
    images = Digits().load("val")
    assert len(rows) == 386
    classifier = read_bundle(space / "bundle")
    assert torch.allclose(classifier.logits(images.pixels[rows]), logits, atol=1e-5)

    from space.app.service import Network, classify

    for index in range(10):  # and from files, as a visitor uploads them
        Image.fromarray(images.pixels[rows[index]].permute(1, 2, 0).numpy()).save(f"{index}.png")
    result = classify(Network(classifier), [f"{index}.png" for index in range(10)])
    assert np.allclose(np.stack([image.logits for image in result.images]), logits[:10], atol=1e-5)


def test_metrics_and_mistakes_match_those_of_the_test_command(space: Path, program: Program) -> None:
    run = space.parent / "runs" / "quickstart" / "version_0"
    with contextlib.chdir(space.parent):
        outcome = program("test", "--ckpt_path", run / "checkpoints" / "last.ckpt")
    assert outcome.status == 0, outcome.err
    result = EvaluationResult.load(space / "bundle" / "evaluation.safetensors")
    [table] = texts(run, "1_results/test/metrics").values()
    assert f"| accuracy | {result.accuracy:.4f} |" in table
    assert f"| loss | {result.loss:.4f} |" in table
    with open(run / "misclassified_test.csv") as file:
        worst = list(csv.DictReader(file))
    assert len(worst) == 20
    of_file = {(int(row["index"]), row["true"], row["predicted"]) for row in worst}
    names = Digits().class_names
    kept = zip(result.indices.tolist(), result.labels.tolist(), result.predictions.tolist(), strict=True)
    assert of_file <= {(index, names[true], names[predicted]) for index, true, predicted in kept}


# Missing data, and other networks


def train_on_folders(program: Program, *args: object) -> Path:
    root = write_class_folders(Path("images"), ("cat", "dog"), train=20, test=6)
    outcome = program("fit", "--config", ROOT / "configs" / "own_images.yaml", *TINY, "--data.root", root, *args)
    assert outcome.status == 0, outcome.err
    return sorted(Path("runs/own_images").iterdir())[-1]


def test_a_space_can_be_exported_without_the_data(program: Program) -> None:
    train_on_folders(program)
    shutil.rmtree("images")
    out = export(program, "--ckpt_path", "best")
    assert len([line for line in out.splitlines() if line.startswith("Without examples, mistakes")]) == 1
    assert not Path("out/bundle/evaluation.safetensors").exists()
    assert json.loads(Path("out/bundle/metadata.json").read_text())["examples"] == []
    code = f"{LOADING}\nfrom space.app.page import build\nbuild(loaded)"
    run_python(code, Path("out"))


def test_how_images_are_prepared_is_part_of_the_model(program: Program) -> None:
    augment = [{"class_path": "RandomResizedCrop", "init_args": {"size": [24, 32]}}, "TrivialAugment", "ColorJitter"]
    sizes = ["--data.image_size", "[24, 32]", "--data.decode_size", "40", "--data.fit", "pad"]
    sizes += ["--data.interpolation", "bicubic"]
    run = train_on_folders(program, *sizes, "--data.augment", json.dumps(augment))
    Image.linear_gradient("L").resize((90, 30)).save("wide.png")
    assert program("predict", "wide.png", "--ckpt_path", "best").status == 0
    export(program, "--ckpt_path", "best")
    bundle = read_bundle(Path("out/bundle"))
    assert bundle.recipe.resizing == Resizing((24, 32), "pad", "bicubic")
    pixels = torch.from_numpy(read_image(Path("wide.png"), bundle.recipe.resizing).copy()).permute(2, 0, 1)[None]
    assert (pixels[0, :, :3] == 128).all()
    logits = read_classifier(run / "checkpoints" / "best.ckpt").logits(pixels)
    expected = (logits / bundle.recipe.temperature).softmax(1)
    torch.testing.assert_close((bundle.logits(pixels) / bundle.recipe.temperature).softmax(1), expected)
    with open("predictions.csv") as file:
        [row] = csv.DictReader(file)
    assert float(row["probability_1"]) == pytest.approx(float(expected.max()), abs=1e-4)


@pytest.mark.parametrize("count", [0, 1])
def test_the_page_works_with_at_most_one_mistake(space: Path, count: int) -> None:
    shutil.copytree(space, "out")
    result = EvaluationResult.load(Path("out/bundle/evaluation.safetensors"))
    correct = result.predictions == result.labels
    rows = torch.cat([correct.nonzero()[:, 0], (~correct).nonzero()[:count, 0]])
    kept = {name: getattr(result, name)[rows] for name in PER_IMAGE}
    counts = torch.zeros_like(result.counts)
    counts.index_put_((kept["labels"], kept["logits"].argmax(1)), torch.tensor(1), accumulate=True)
    replace(result, counts=counts, **kept).save(Path("out/bundle/evaluation.safetensors"))
    code = f"{LOADING}\nfrom space.app.page import build\nbuild(loaded)\n"
    code += "from space.app.tabs.misclassified import mistakes\n"
    code += "rows, status, pictures = mistakes(loaded, 12)\nprint(len(rows), len(pictures), status)"
    mistakes = "1 of 1 mistake" if count else "No mistakes"
    assert run_python(code, Path("out")).startswith(f"{count} {count} **{mistakes}")


def test_images_may_be_in_another_folder(program: Program) -> None:
    train_on_folders(program)
    Path("images/test").rename("elsewhere")
    shutil.rmtree("images")
    export(program, "--ckpt_path", "best", "--images", "elsewhere")
    result = EvaluationResult.load(Path("out/bundle/evaluation.safetensors"))
    assert result.counts.sum(1).tolist() == [6, 6]
    assert json.loads(Path("out/bundle/metadata.json").read_text())["title"] == "own_images"


def test_a_checkpoint_outside_its_run_folder_can_be_exported(program: Program) -> None:
    run = train_on_folders(program)
    shutil.copyfile(run / "checkpoints" / "best.ckpt", "alone.ckpt")
    out = export(program, "--ckpt_path", "alone.ckpt")
    assert "is not in its run's folder" in out
    assert read_bundle(Path("out/bundle")).recipe.class_names == ["cat", "dog"]


LOADING = """
import app
from pathlib import Path
from space.app.loaded_bundle import LoadedBundle
loaded = LoadedBundle.load(Path("bundle"), "", app.NETWORKS)
"""
FLAT = """
from torch import nn

class Flat(nn.Sequential):
    def __init__(self, num_classes: int):
        super().__init__(nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes))
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


def test_a_users_network_is_copied_with_its_imports(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own_net.py").write_text(OWN)
    Path("own_parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(os.getcwd())
    train_on_folders(program, "--model.net", "own_net.Net", "--allow_import", "own_net")
    export(program, "--ckpt_path", "last", "--allow_import", "own_net")
    assert Path("out/own_net.py").read_text() == OWN
    assert Path("out/own_parts.py").read_text() == PARTS
    assert "NETWORKS = ('own_net.Net',)" in Path("out/app.py").read_text()
    code = f"{LOADING}\nprint(loaded.network.layers)"
    os.rename("own_net.py", "hidden.py")
    assert "'block': (4, 10, 10)" in run_python(code, Path("out"))
    for module in ("own_net", "own_parts"):
        del sys.modules[module]


def test_a_space_works_without_feature_maps_and_stored_mistakes(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("flat_net.py").write_text(FLAT)
    monkeypatch.syspath_prepend(os.getcwd())
    options = ["--model.net", "flat_net.Flat", "--data.image_size", 32]
    train_on_folders(program, *options, "--allow_import", "flat_net")
    export(program, "--ckpt_path", "last", "--mistakes", 0, "--allow_import", "flat_net")
    assert "The network has no feature maps" in Path("out/README.md").read_text()
    code = f"{LOADING}\nfrom space.app.page import build\npage = build(loaded)\n"
    code += "blocks = page.blocks.values()\n"
    code += "layers = [block for block in blocks if str(getattr(block, 'label', '')).startswith('Layer')]\n"
    code += "print([layer.preprocess(layer.value) for layer in layers])"  # gradio refuses a value that is no choice
    assert "None" in run_python(code, Path("out"))
    del sys.modules["flat_net"]


def test_a_network_in_a_users_package_is_refused_in_one_line(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own_package").mkdir()
    Path("own_package/__init__.py").write_text("")
    Path("own_package/net.py").write_text(
        OWN.replace("from own_parts import Block", "from torch.nn import Identity as Block").replace(
            "Linear(4", "Linear(3"
        )
    )
    monkeypatch.syspath_prepend(os.getcwd())
    train_on_folders(program, "--model.net", "own_package.net.Net", "--allow_import", "own_package")
    outcome = program("export", "--ckpt_path", "last", "--output", "out", "--allow_import", "own_package")
    assert outcome.status == 2
    assert "own_package.net is neither part of an installed package nor a single file" in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not Path("out").exists()


def test_torchvision_networks_are_a_requirement_and_download_nothing(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on_folders(program, "--model.net", "torchvision.models.squeezenet1_1", "--data.image_size", "32")
    checkpoint = torch.load("runs/own_images/version_0/checkpoints/last.ckpt", weights_only=True)
    net = checkpoint["hyper_parameters"]["net"]
    net.setdefault("init_args", {})["weights"] = "DEFAULT"  # would be downloaded when built
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


def test_packages_become_pinned_requirements_except_torch() -> None:
    found = find_external_code({"class_path": "timm.create_model", "init_args": {"model_name": "resnet18"}})
    assert (found.networks, found.files) == (["timm.create_model"], [])
    assert found.requirements == [f"timm=={version('timm')}"]
    own = {"class_path": "cifar_lit.models.ResNet9", "init_args": {}}
    assert find_external_code(own) == ExternalCode([], [], [])
    assert find_external_code({"class_path": "torch.nn.Linear"}).requirements == []
    with pytest.raises(InputError, match=r"imports cifar_lit\.training\.classifier, which a Space does not contain"):
        find_external_code({"class_path": "cifar_lit.training.classifier.Classifier"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", "no such file: run.ckpt"),
        ("truncated", "is truncated or damaged, or is not a checkpoint of this program"),
        ("foreign", "is not a checkpoint of this program"),
        ("another network", "cannot be built"),
        ("an external network", "nowhere.Net is external code"),
    ],
)
def test_an_unusable_checkpoint_is_refused_in_one_line_and_leaves_no_folder(
    program: Program, space: Path, damage: str, message: str
) -> None:
    checkpoint = torch.load(checkpoint_of(space), weights_only=True)
    settings = checkpoint["hyper_parameters"]
    if damage == "another network":
        settings["net"] = {"class_path": "cifar_lit.models.ResNet9", "init_args": {"num_classes": 10}}
    if damage == "an external network":
        settings["net"] = {"class_path": "nowhere.Net", "init_args": {}}
    if damage == "foreign":
        checkpoint = {"weights": torch.zeros(3)}
    if damage != "missing":
        torch.save(checkpoint, "run.ckpt")
    if damage == "truncated":
        Path("run.ckpt").write_bytes(Path("run.ckpt").read_bytes()[:5000])
    for command in ("export", "demo"):
        outcome = program(command, "--ckpt_path", "run.ckpt", "--output", "out")
        assert outcome.status == 2
        assert re.search(message, outcome.err), outcome.err
        assert len(outcome.err.splitlines()) == 1
    assert {path.name for path in Path().iterdir()} <= {"run.ckpt", "cache"}


def test_a_failed_export_leaves_no_folder(program: Program, space: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(EvaluationResult, "save", full)
    outcome = program("export", "--ckpt_path", checkpoint_of(space), "--output", "out")
    assert outcome.status == 2
    assert "No space left on device" in outcome.err
    assert {path.name for path in Path().iterdir()} <= {"cache"}


# The output folder, and Hugging Face


def test_a_folder_with_other_files_is_not_overwritten(program: Program, space: Path) -> None:
    Path("out").mkdir()
    Path("out/thesis.txt").write_text("mine")
    outcome = program("export", "--ckpt_path", checkpoint_of(space), "--output", "out")
    assert outcome.status == 2
    assert "is not empty and not an exported Space" in outcome.err
    assert [path.name for path in Path("out").iterdir()] == ["thesis.txt"]


def test_an_export_replaces_an_earlier_one(program: Program, space: Path) -> None:
    shutil.copytree(space, "out")
    Path("out/bundle/stale.png").write_text("old")
    Path("out/.git").mkdir()
    export(program, "--ckpt_path", checkpoint_of(space), "--title", "Mine: a <b>title</b>", "--mistakes", 3)
    assert not Path("out/bundle/stale.png").exists()
    assert Path("out/.git").is_dir()
    assert "# Mine: a &lt;b&gt;title&lt;/b&gt;" in Path("out/README.md").read_text()


def test_pushing_lists_the_files_and_asks(program: Program, space: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    out = export(program, "--ckpt_path", checkpoint_of(space), "--push", "me/digits", "--dry_run")
    assert re.search(r"\d+  bundle/weights\.safetensors", out)
    assert "This would upload" in out
    assert not calls

    push = ("export", "--ckpt_path", checkpoint_of(space), "--output", "out", "--push", "me/digits")
    outcome = program(*push)
    assert outcome.status == 2
    assert "not logged in to Hugging Face" in outcome.err
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_secret")
    outcome = program(*push)
    assert outcome.status == 2
    assert "without a terminal, add --yes" in outcome.err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert "Nothing was uploaded" in program(*push).out
    assert not calls

    Path("out/notes.txt").write_text("not part of it")
    Path("out/secret.py").write_text("not part of it")
    out = export(program, "--ckpt_path", checkpoint_of(space), "--push", "me/digits", "--yes")
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
def test_an_invalid_space_name_is_refused(program: Program, space: Path, repo: str) -> None:
    outcome = program("export", "--ckpt_path", checkpoint_of(space), "--output", "out", "--push", repo)
    assert outcome.status == 2
    assert "must be user/name" in outcome.err
