"""Bundles: round trip, untrusted networks and damaged files."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cifar_lit.errors import InputError
from cifar_lit.inference.bundle import Recipe, TrainedClassifier, read_bundle, write_bundle
from cifar_lit.inference.images import Resizing

NAMES = ["cat", "dog", "owl"]
PIXELS = torch.randint(0, 256, (5, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def recipe(class_path: str = "cifar_lit.models.TinyNet", **settings: object) -> Recipe:
    net = {"class_path": class_path, "init_args": {"num_classes": 3}}
    return Recipe(net, NAMES, (12, 12), [0.4, 0.5, 0.6], [0.2, 0.3, 0.4], **settings)  # type: ignore[arg-type]


def trained(chosen: Recipe) -> TrainedClassifier:
    torch.manual_seed(0)
    return TrainedClassifier.from_weights(chosen, chosen.build().state_dict())


class WithTable(nn.Module):
    """A network with a non-persistent buffer."""

    table: Tensor

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.register_buffer("table", torch.arange(3.0) * 2, persistent=False)
        self.linear = nn.Linear(3, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images.mean((2, 3)) + self.table)


class ReadsBuffer(WithTable):
    """A network that reads a buffer in its constructor."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__(num_classes)
        self.largest = float(self.table.max())


@pytest.mark.parametrize("flip_tta", [False, True])
def test_a_bundle_round_trip_keeps_the_logits(flip_tta: bool) -> None:
    first = trained(recipe(flip_tta=flip_tta, temperature=1.5))
    write_bundle(Path("bundle"), first.recipe, first.network.state_dict())
    second = read_bundle(Path("bundle"))
    assert torch.equal(first.logits(PIXELS), second.logits(PIXELS))
    normalized = (PIXELS / 255 - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(
        3, 1, 1
    )
    expected = second.network.net(normalized)
    if flip_tta:
        expected = (expected + second.network.net(normalized.flip(-1))) / 2
    assert torch.allclose(second.logits(PIXELS), expected, atol=1e-6)
    assert second.recipe.temperature == 1.5
    assert not second.network.training
    assert not any(parameter.requires_grad for parameter in second.network.parameters())


class PlainTensor(WithTable):
    """A network with a tensor that is not a buffer, converted to an array in its constructor."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__(num_classes)
        self.own = torch.arange(3.0)
        self.largest = self.own.numpy().max()

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + self.own.sum()


@pytest.mark.parametrize("net", [WithTable, ReadsBuffer, PlainTensor])
def test_a_network_may_compute_tensors_in_its_constructor(net: type[nn.Module]) -> None:
    path = f"{__name__}.{net.__name__}"
    first = trained(recipe(path))
    write_bundle(Path("bundle"), first.recipe, first.network.state_dict())
    assert torch.equal(first.logits(PIXELS), read_bundle(Path("bundle"), [path]).logits(PIXELS))


def change(**settings: object) -> None:
    file = Path("bundle/recipe.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


@pytest.mark.parametrize(
    "net",
    [
        {"class_path": "os.system", "init_args": {"command": "touch ran"}},
        {"class_path": "cifar_lit.models.factory.build_network", "init_args": {"recipe": {}}},
        {"class_path": "cifar_lit.models.TinyNet", "init_args": {"width": {"class_path": "os.system"}}},
        {"class_path": f"{__name__}.WithTable"},
        {"class_path": "torch.nn.Linear", "init_args": {"in_features": 1, "out_features": 1}},
    ],
)
def test_only_trusted_networks_are_built(net: dict[str, object]) -> None:
    first = trained(recipe())
    write_bundle(Path("bundle"), first.recipe, first.network.state_dict())
    change(net=net)
    with pytest.raises(InputError, match="is not trusted"):
        read_bundle(Path("bundle"))
    assert not Path("ran").exists()


def test_bundles_of_early_releases_are_read() -> None:
    first = trained(recipe())
    write_bundle(Path("bundle"), first.recipe, first.network.state_dict())
    file = Path("bundle/recipe.json")
    newer = {"fit", "interpolation", "adaptive_tta", "ood_score"}
    file.write_text(
        json.dumps({name: value for name, value in json.loads(file.read_text()).items() if name not in newer})
    )
    assert read_bundle(Path("bundle")).recipe.resizing == Resizing((12, 12), "crop", "bilinear")


def test_a_network_that_does_not_match_its_weights_is_refused_before_it_fills_the_memory() -> None:
    first = trained(recipe())
    write_bundle(Path("bundle"), first.recipe, first.network.state_dict())
    change(net={"class_path": "cifar_lit.models.ResNet9", "init_args": {"width": 2**16}})  # 27 TB of weights
    with pytest.raises(InputError, match=r"its network .*ResNet9 cannot be built"):
        read_bundle(Path("bundle"))


def test_a_damaged_bundle_is_refused_in_one_line() -> None:
    first = trained(recipe())
    damages = {
        "no recipe": lambda: Path("bundle/recipe.json").unlink(),
        "invalid JSON": lambda: Path("bundle/recipe.json").write_text("{"),
        "a list": lambda: Path("bundle/recipe.json").write_text("[]"),
        "another version": lambda: change(format=99),
        "an unknown setting": lambda: change(run="rm"),
        "names that are no texts": lambda: change(class_names=[1, None]),
        "no names": lambda: change(class_names=[]),
        "an enormous size": lambda: change(image_size=[10**6, 10**6]),
        "a size of 0": lambda: change(image_size=[0, 8]),
        "a size that is a text": lambda: change(image_size=["8", "8"]),
        "an unknown fit": lambda: change(fit="tile"),
        "an unknown interpolation": lambda: change(interpolation="nearest"),
        "an unknown score": lambda: change(ood_score="lof"),
        "no training features": lambda: change(ood_score="knn"),
        "four means": lambda: change(mean=[0.5] * 4),
        "a mean that is a text": lambda: change(mean=["a", "b", "c"]),
        "a temperature of 0": lambda: change(temperature=0),
        "no weights": lambda: Path("bundle/weights.safetensors").unlink(),
        "half the weights": lambda: Path("bundle/weights.safetensors").write_bytes(
            Path("bundle/weights.safetensors").read_bytes()[:500]
        ),
        "a missing weight": lambda: save_file(
            {name: tensor for name, tensor in load_file("bundle/weights.safetensors").items() if "head" not in name},
            "bundle/weights.safetensors",
        ),
    }
    for name, damage in damages.items():
        write_bundle(Path("bundle"), first.recipe, first.network.state_dict())
        damage()
        with pytest.raises(InputError, match="is not an intact bundle") as error:
            pytest.fail(f"read with {name}: {read_bundle(Path('bundle'))}")
        assert "\n" not in str(error.value), name
