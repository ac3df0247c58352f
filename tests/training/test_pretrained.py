"""Networks of other packages, with pretrained weights of another number of classes; without a network connection."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from jsonargparse import Namespace
from torch import nn

from cifar_lit.errors import InputError
from cifar_lit.models.factory import build_network
from cifar_lit.training.pretrained import build_pretrained, use_preprocessing, without_pretrained

SQUEEZENET = torchvision.models.squeezenet1_1
IMAGES = torch.randn(2, 3, 64, 64)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://localhost:1")
    monkeypatch.setattr("urllib.request._opener", None)  # which would keep this proxy for later tests


def save_weights(tmp_path: Path) -> dict[str, torch.Tensor]:
    """Put weights for 1,000 classes where torchvision would download them to."""
    weights = SQUEEZENET().state_dict()
    file = tmp_path / "hub" / "checkpoints" / Path(torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url).name
    file.parent.mkdir(parents=True)
    torch.save(weights, file)
    return weights


def test_torchvision_weights_of_other_classes_get_a_new_head(tmp_path: Path) -> None:
    weights = save_weights(tmp_path)
    net = build_pretrained(SQUEEZENET, {"weights": "DEFAULT", "num_classes": 3})
    assert net(IMAGES).shape == (2, 3)
    assert torch.equal(net.state_dict()["features.0.weight"], weights["features.0.weight"])
    recipe = {"class_path": "torchvision.models.squeezenet1_1", "init_args": {"weights": "DEFAULT", "num_classes": 3}}
    build_network(without_pretrained(recipe)).load_state_dict(net.state_dict())


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "vit_b_16", "mobilenet_v3_small", "convnext_tiny"])
def test_the_last_layer_is_the_head(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    factory = getattr(torchvision.models, name)

    def pretrained(weights: str) -> nn.Module:
        with torch.device("meta"):
            net: nn.Module = factory()
        return net

    pretrained.__module__ = "torchvision.models"
    with torch.device("meta"):
        net, expected = build_pretrained(pretrained, {"weights": "DEFAULT", "num_classes": 7}), factory(num_classes=7)
    shapes = {key: value.shape for key, value in net.state_dict().items()}
    assert shapes == {key: value.shape for key, value in expected.state_dict().items()}


def test_timm_weights_of_other_classes_get_a_new_head() -> None:
    trained = timm.create_model("test_resnet", num_classes=10)
    torch.save(trained.state_dict(), "ten.pth")
    for num_classes in (10, 3):
        arguments: dict[str, Any] = {"model_name": "test_resnet", "checkpoint_path": "ten.pth"}
        net = build_pretrained(timm.create_model, arguments | {"num_classes": num_classes})
        assert net(IMAGES).shape == (2, num_classes)
        assert torch.equal(net.state_dict()["conv1.0.weight"], trained.state_dict()["conv1.0.weight"])
    torch.save(timm.create_model("test_vit").state_dict(), "other.pth")
    with pytest.raises(InputError, match="has the weights of another network"):
        build_pretrained(timm.create_model, {**arguments, "checkpoint_path": "other.pth", "num_classes": 3})


def test_a_mistake_is_not_taken_for_a_missing_connection() -> None:
    with pytest.raises(InputError, match=r"resnet81 cannot be built \(Unknown model \(resnet81\)\)$"):
        build_pretrained(timm.create_model, {"model_name": "resnet81", "pretrained": True})


def test_the_image_size_of_torchvisions_weights_is_kept() -> None:
    settings = {"weights": "IMAGENET1K_SWAG_E2E_V1"}
    recipe = without_pretrained({"class_path": "torchvision.models.vit_b_16", "init_args": settings})
    assert recipe["init_args"] == {"image_size": 384}


RESNET = {"class_path": "torchvision.models.resnet18", "init_args": {"weights": "DEFAULT"}}
VIT = {"class_path": "timm.create_model", "init_args": {"model_name": "vit_tiny_patch16_384", "pretrained": True}}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "image_size": (224, 224)}
IMAGENET |= {"interpolation": "bilinear"}
UNSET = {"mean": None, "std": None, "image_size": None, "interpolation": None}


@pytest.mark.parametrize(
    ("recipe", "given", "expected"),
    [
        (RESNET, UNSET, IMAGENET),
        (RESNET, {**UNSET, "mean": [0.4] * 3, "image_size": 96}, {**IMAGENET, "mean": [0.4] * 3, "image_size": 96}),
        (RESNET, {"mean": None, "std": None}, {"mean": IMAGENET["mean"], "std": IMAGENET["std"]}),
        (VIT, UNSET, {"mean": [0.5] * 3, "std": [0.5] * 3, "image_size": (384, 384), "interpolation": "bicubic"}),
        ({"class_path": "torchvision.models.resnet18", "init_args": {}}, UNSET, UNSET),
        ({"class_path": "cifar_lit.models.TinyNet"}, UNSET, UNSET),
    ],
)
def test_images_are_prepared_as_for_pretraining(
    recipe: dict[str, Any], given: dict[str, Any], expected: dict[str, Any]
) -> None:
    data = dict(given)
    note = use_preprocessing(data, recipe)
    assert data == expected
    assert bool(note) == (data != given)


def test_a_resumed_run_prepares_images_as_before() -> None:
    data = Namespace(**UNSET)  # as the command line passes it
    stored = {"mean": [0.1] * 3, "std": [0.2] * 3, "image_size": [64, 64], "interpolation": "bicubic"}
    use_preprocessing(data, RESNET, stored)
    assert data == Namespace(**stored | {"image_size": (64, 64)})
    data = dict(UNSET)
    use_preprocessing(data, RESNET, {})  # a checkpoint of an early release
    assert data == UNSET


@pytest.mark.parametrize(
    ("factory", "arguments", "route"),
    [
        (
            SQUEEZENET,
            {"weights": "DEFAULT"},
            r"download https://download\.pytorch\.org/models/squeezenet1_1-\w+\.pth elsewhere, to ~/\.cache/torch",
        ),
        (
            timm.create_model,
            {"model_name": "test_resnet", "pretrained": True},
            r"download https://huggingface\.co/timm/test_resnet\.r160_in1k elsewhere, .*checkpoint_path: FILE",
        ),
    ],
)
def test_missing_weights_are_one_line_with_the_offline_route(factory: Any, arguments: Any, route: str) -> None:
    with pytest.raises(InputError, match=f"the pretrained network .* cannot be built .*{route}"):
        build_pretrained(factory, {**arguments, "num_classes": 3})
    net = build_pretrained(factory, {**arguments, "num_classes": 3}, load=False)  # a checkpoint has the weights
    assert net(IMAGES).shape == (2, 3)


def test_a_missing_file_of_weights_is_named() -> None:
    with pytest.raises(InputError, match=r"model\.net\.checkpoint_path: no such file: none\.pth"):
        build_pretrained(timm.create_model, {"model_name": "test_resnet", "checkpoint_path": "none.pth"})
