import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
import torchvision.datasets as tv
import yaml
from torchvision.models import ResNet18_Weights, resnet18

from cifar_lit.data.batches import ImageTensors
from cifar_lit.data.cifar import CIFAR10, CIFAR100
from tests.support.images import write_class_folders
from tests.support.program import QUIET, ROOT, Outcome

CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.yaml") if path.name != "defaults.yaml")
SHORT = ["--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2, "--trainer.accelerator", "cpu", *QUIET]
PARAMETERS = {
    "resnet9_s0": 6_573_120,
    "resnet9_s1": 7_756_554,
    "resnet9_s2": 6_573_130,
    "resnet18_s3": 11_173_962,
    "resnet9_s4": 6_575_370,
}


@pytest.fixture
def small_cifar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace CIFAR's archives with random images, 20 of each class in each split."""

    def read(self: CIFAR10 | CIFAR100, train: bool) -> ImageTensors:
        labels = torch.arange(20 * self.num_classes) % self.num_classes
        generator = torch.Generator().manual_seed(int(train))
        pixels = torch.randint(0, 256, (len(labels), 3, 32, 32), dtype=torch.uint8, generator=generator)
        return ImageTensors(pixels, labels)

    for data in (CIFAR10, CIFAR100):
        monkeypatch.setattr(data, "_read", read)


def test_there_are_configs() -> None:
    assert len(CONFIGS) >= 9
    assert PARAMETERS.keys() <= {config.stem for config in CONFIGS}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_config_trains_through_the_real_program(
    config: Path, program: Callable[..., Outcome], small_cifar: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_class_folders(Path("images"), train=20)
    monkeypatch.setenv("TORCH_HOME", "home")
    pretrained = Path("home", "hub", "checkpoints", Path(ResNet18_Weights.DEFAULT.url).name)
    pretrained.parent.mkdir(parents=True)
    if config.stem == "finetune":
        torch.save(resnet18().state_dict(), pretrained)
    workers = ["--data.num_workers", 0]  # worker processes are slow to start, and tested elsewhere
    own = ["--data.root", root] if config.stem in ("own_images", "finetune") else []
    few = ["--data.batch_size", 8, "--data.val_fraction", 0.1]  # 2% of so few images would not include every class
    outcome = program("fit", "--config", config, *few, *SHORT, *workers, *own)
    assert outcome.status == 0, outcome.err
    [run] = Path("runs", config.stem).iterdir()
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2
    if config.stem in PARAMETERS:
        trained = checkpoint["optimizer_states"][0]["param_groups"][0]["params"]
        values = list(checkpoint["state_dict"].items())
        counted = sum(value.numel() for name, value in values if name.endswith(("weight", "bias")))
        assert len(trained) == sum(name.endswith(("weight", "bias")) for name, _ in values)
        assert counted == PARAMETERS[config.stem]


def test_quickstart_reaches_95_percent_on_its_test_images(program: Callable[..., Outcome]) -> None:
    assert program("fit", "--config", ROOT / "configs" / "quickstart.yaml", *QUIET).status == 0
    outcome = program("test", "--ckpt_path", "best")
    assert outcome.status == 0, outcome.err
    [accuracy] = re.findall(r"accuracy\D*([\d.]+)", outcome.out)
    assert float(accuracy) >= 0.95  # .958 to .966, depending on the CPU and its number of threads


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_config_starts_with_its_command_and_its_schema(config: Path) -> None:
    command, schema, *_ = config.read_text().splitlines()
    assert command.startswith(f"# python main.py fit --config configs/{config.name}")
    assert schema == "# yaml-language-server: $schema=schema.json"


def test_schema_file_is_up_to_date_and_accepts_every_config() -> None:
    # In a subprocess, since the schema would include every class that this process has imported
    completed = subprocess.run([sys.executable, "main.py", "schema"], cwd=ROOT, capture_output=True, check=True)
    schema = json.loads(completed.stdout)
    assert json.loads((ROOT / "configs" / "schema.json").read_text()) == schema, (
        "update it: python main.py schema > configs/schema.json"
    )
    validator = jsonschema.Draft202012Validator(schema)
    for config in [*CONFIGS, ROOT / "configs" / "defaults.yaml"]:
        validator.validate(yaml.safe_load(config.read_text()))


@pytest.mark.parametrize(
    "settings",
    [
        {"trainer": {"max_epoch": 3}},
        {"model": {"net": {"class_path": "ResNet9", "init_args": {"widht": 3}}}},
        {"data": {"class_path": "ClassFolders", "init_args": {"batch_size": "many"}}},
        {"model": {"lr_scheduler": {"class_path": "OneCycleLR", "init_args": {"max_lrr": 0.1}}}},
    ],
)
def test_schema_rejects_invalid_settings(settings: dict[str, Any]) -> None:
    schema = json.loads((ROOT / "configs" / "schema.json").read_text())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(settings, schema)


@pytest.mark.parametrize(
    "settings",
    [
        {"model": {"net": {"class_path": "my_file.MyNet", "init_args": {"anything": 3}}}},
        {"trainer": {"callbacks+": [{"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss"}}]}},
    ],
)
def test_schema_accepts_user_defined_classes_and_appended_lists(settings: dict[str, Any]) -> None:
    jsonschema.validate(settings, json.loads((ROOT / "configs" / "schema.json").read_text()))


def test_dataset_names_match_torchvision() -> None:
    assert {data.torchvision_name for data in (CIFAR10, CIFAR100)} == {tv.CIFAR10.__name__, tv.CIFAR100.__name__}
