import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from pytorch_grad_cam.ablation_layer import AblationLayerVit
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from callbacks.rendering.activations import feature_maps
from callbacks.rendering.class_activation_maps import Method, fast_methods, heatmaps
from cifar_lit.data.digits import Digits
from cifar_lit.models import ResNet9
from cifar_lit.training.checkpointing.checkpoint_files import read_classifier

GRADIENT_METHODS = {
    "gradcam": pytorch_grad_cam.GradCAM,
    "gradcam++": pytorch_grad_cam.GradCAMPlusPlus,
    "hirescam": pytorch_grad_cam.HiResCAM,
    "layercam": pytorch_grad_cam.LayerCAM,
}
METHODS = [method for method in get_args(Method) if method != "attention_rollout"]  # which needs a transformer


def resnet9(width: int = 16) -> ResNet9:
    torch.manual_seed(0)
    net = ResNet9(width=width)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # as if trained, so that maps differ
            nn.init.normal_(module.running_mean, std=0.3)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return net.eval()


def images(count: int = 16, size: int = 32) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def library_maps(net: nn.Module, layer: str, inputs: Tensor, classes: Tensor, method: Any) -> np.ndarray:
    twin = copy.deepcopy(net)
    return method(twin, [twin.get_submodule(layer)])(inputs, [ClassifierOutputTarget(c) for c in classes.tolist()])


@pytest.mark.parametrize("layer", ["layer3", "layer2", "layer3.1.branch.0.0"])
@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_maps_match_the_grad_cam_library(method: Method, layer: str) -> None:
    net, inputs = resnet9(), images()
    classes = torch.arange(32).view(16, 2) % 10
    ours = heatmaps(net, [layer], inputs, classes, method)
    assert ours.shape == (1, 16, 2, 32, 32)
    for column in (0, 1):
        theirs = library_maps(net, layer, inputs, classes[:, column], GRADIENT_METHODS[method])
        assert theirs.std() > 0.05
        assert np.abs(ours[0, :, column].numpy() - theirs).max() < 1e-4


def test_several_layers_in_one_pass_match_separate_passes() -> None:
    net, inputs, classes = resnet9(), images(4), torch.tensor([[0], [1], [2], [3]])
    layers = ["prep", "layer3", "layer2", "layer3.1", "layer3.1.branch.1"]
    together = heatmaps(net, layers, inputs, classes)
    for index, layer in enumerate(layers):
        assert torch.allclose(together[index], heatmaps(net, [layer], inputs, classes)[0], atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_network_is_not_modified(method: Method) -> None:
    net, inputs = resnet9(4), images(2)
    net.prep[0].weight.requires_grad_(False)
    before = copy.deepcopy(net.state_dict())
    heatmaps(net, ["layer3"], inputs, torch.tensor([[1], [2]]), method)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert [p.requires_grad for p in net.parameters()].count(False) == 1
    assert all(p.grad is None for p in net.parameters())
    for module in net.modules():
        assert not module._forward_hooks
        assert not module._backward_hooks
        assert not module.training
        assert "forward" not in vars(module)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("method", METHODS)
def test_maps_do_not_depend_on_the_autograd_mode(method: Method, mode: Callable[[], Any]) -> None:
    net, classes = resnet9(4), torch.tensor([[1], [2]])
    expected = heatmaps(net, ["layer3"], images(2), classes, method)
    with mode():
        inside = torch.is_grad_enabled()
        maps = heatmaps(net, ["layer3"], images(2), classes.clone(), method)
        assert torch.is_grad_enabled() == inside
    assert torch.allclose(maps, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["frozen", "compiled", "wrapped by torch.compile", "channels last"])
def test_maps_do_not_depend_on_how_the_network_is_wrapped(kind: str) -> None:
    net, classes = resnet9(), torch.tensor([[1], [2]])
    expected = heatmaps(net, ["layer3"], images(2), classes)
    inputs, seen = images(2), net
    if kind == "frozen":
        net.requires_grad_(False)
    elif kind == "compiled":
        net.compile(backend="eager")
        net(inputs)
    elif kind == "channels last":
        net.to(memory_format=torch.channels_last)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    else:
        seen = torch.compile(net, backend="eager")  # type: ignore[assignment]
    assert torch.allclose(heatmaps(seen, ["layer3"], inputs, classes), expected, atol=1e-4)
    by_library = heatmaps(seen, ["layer3"], inputs, classes, "eigencam")
    assert torch.allclose(by_library, heatmaps(resnet9(), ["layer3"], images(2), classes, "eigencam"), atol=1e-3)


def test_maps_in_bfloat16_are_close_to_those_in_float32() -> None:
    net, classes = resnet9(), torch.tensor([[1], [2], [3], [4]])
    exact = heatmaps(net, ["layer3"], images(4), classes)
    with torch.autocast("cpu", torch.bfloat16):
        rough = heatmaps(net, ["layer3"], images(4), classes)
    assert rough.dtype == torch.float32
    assert torch.corrcoef(torch.stack([exact.flatten(), rough.flatten()]))[0, 1] > 0.95
    assert heatmaps(net.bfloat16(), ["layer3"], images(4).bfloat16(), classes).dtype == torch.float32


@pytest.mark.parametrize("method", METHODS)
def test_in_place_layers_do_not_change_the_maps(method: Method) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net = nn.Sequential(*layers, nn.Linear(8, 4)).eval()
    twin = copy.deepcopy(net)
    twin[1] = nn.ReLU()
    classes = torch.tensor([[0], [3]])
    maps, expected = (heatmaps(each, ["0"], images(2), classes, method) for each in (net, twin))
    assert torch.allclose(maps, expected, atol=1e-5)


def test_layer_that_is_used_twice_is_explained_at_its_last_use() -> None:
    torch.manual_seed(0)
    act = nn.ReLU()
    layers = [nn.Conv2d(3, 8, 3), act, nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), act, nn.Flatten()]
    net = nn.Sequential(*layers, nn.Linear(8 * 13 * 13, 4)).eval()
    twin = copy.deepcopy(net)
    twin[4] = nn.ReLU()
    classes = torch.tensor([[0], [3]])
    assert feature_maps(net, images(1))["1"] == (8, 13, 13)
    assert torch.equal(heatmaps(net, ["1"], images(2), classes), heatmaps(twin, ["4"], images(2), classes))


def test_threads_can_share_a_network() -> None:
    net, inputs = resnet9(), images(3)
    classes = [torch.full((3, 1), label) for label in range(10)]
    expected = [heatmaps(net, ["layer3"], inputs, column) for column in classes]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda label: heatmaps(net, ["layer3"], inputs, classes[label % 10]), range(60)))
    assert all(torch.equal(maps, expected[number % 10]) for number, maps in enumerate(found))


# Meaning of the maps


class HalvesNet(nn.Module):
    """The logit of class 0 is the brightness of the left half, that of class 1 the brightness of the right half."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.ones_(self.features.weight)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.features(x)[:, 0]
        return torch.stack([maps[..., :4].sum((1, 2)), maps[..., 4:].sum((1, 2))], 1)


@pytest.mark.parametrize("method", ["hirescam", "layercam"])
def test_map_peaks_at_the_evidence_for_the_class(method: Method) -> None:
    net = HalvesNet().eval()
    pixels = torch.zeros(1, 3, 8, 8)
    pixels[0, :, 2, 1], pixels[0, :, 6, 5] = 1, 1
    left, right = heatmaps(net, ["features"], pixels, torch.tensor([[0, 1]]), method)[0, 0]
    assert divmod(int(left.argmax()), 8) == (2, 1)
    assert divmod(int(right.argmax()), 8) == (6, 5)
    assert left[6, 5] == right[2, 1] == 0


@pytest.mark.parametrize("method", METHODS)
def test_map_peaks_at_the_only_feature(method: Method) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    for weight in (net[0].weight, net[4].weight):
        nn.init.uniform_(weight, 0.5, 1)
    nn.init.zeros_(net[0].bias)
    pixels = torch.zeros(1, 3, 8, 8)
    pixels[0, :, 2, 5] = 1
    [[[heat]]] = heatmaps(net, ["1"], pixels, torch.tensor([[1]]), method)
    assert divmod(int(heat.argmax()), 8) == (2, 5)
    assert heat.sum() == pytest.approx(1, abs=1e-3)


def test_map_without_evidence_is_zero() -> None:
    net = HalvesNet().eval()
    assert heatmaps(net, ["features"], -torch.ones(1, 3, 8, 8), torch.tensor([[0]])).sum() == 0


# Feature maps


class Functional(nn.Module):
    """A net that ends in functional calls and uses one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = nn.Conv2d(3, 6, 3, stride=2), nn.Conv2d(6, 6, 1)
        self.unused = nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(torch.relu(self.again(self.first(x))))
        return self.head(x.mean((2, 3)))


def test_last_feature_map_is_found_in_any_network() -> None:
    import timm
    import torchvision

    def last(net: nn.Module, size: int) -> tuple[str, tuple[int, int, int]]:
        return list(feature_maps(net.eval(), images(1, size)).items())[-1]

    assert last(resnet9(), 32) == ("layer3", (128, 4, 4))
    assert last(ResNet9(head="conv"), 32) == ("layer3", (512, 4, 4))
    assert last(Functional(), 9) == ("again", (6, 4, 4))
    assert last(torchvision.models.resnet18(), 64) == ("layer4", (512, 2, 2))
    assert last(torchvision.models.mobilenet_v3_small(), 64) == ("features", (576, 2, 2))
    assert last(timm.create_model("convnext_atto"), 64)[1] == (320, 2, 2)


def test_any_network_can_be_explained_at_its_last_feature_map() -> None:
    import timm
    import torchvision

    for net in (torchvision.models.resnet18(), torchvision.models.mobilenet_v3_small(), timm.create_model("resnet10t")):
        inputs = images(1, 64)
        [layer] = list(feature_maps(net.eval(), inputs))[-1:]
        classes = torch.tensor([[7]])
        ours = heatmaps(net, [layer], inputs, classes)[0, :, 0].numpy()
        assert np.abs(ours - library_maps(net, layer, inputs, classes[:, 0], pytorch_grad_cam.GradCAM)).max() < 1e-4


class AttnNet(nn.Module):
    """A network named after attention, with a scalar output beside its feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.gate = nn.Conv2d(3, 4, 3), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        self.gate(x.mean())
        return self.features(x).mean((2, 3))


def test_neither_the_networks_own_name_nor_other_outputs_hide_its_feature_maps() -> None:
    assert list(feature_maps(AttnNet(), images(1))) == ["features"]


class InPlaceInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x.sub_(0.5)).mean((2, 3))


def test_a_network_may_modify_its_input() -> None:
    assert list(feature_maps(InPlaceInput(), images(1))) == ["features"]


def test_feature_maps_are_empty_for_a_network_without_any() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    assert feature_maps(net, images(1)) == {}
    assert net.training


def test_other_4d_outputs_of_transformers_are_not_feature_maps() -> None:
    import timm

    vit = timm.create_model("vit_tiny_patch16_224", img_size=64, qk_norm=True).eval()
    assert not any("attn" in name or "mlp" in name for name in feature_maps(vit, images(1, 64)))
    swin = timm.create_model("swin_tiny_patch4_window7_224", img_size=64).eval()
    assert all(channels > 9 for channels, _, _ in feature_maps(swin, images(1, 64)).values())
    cait = timm.create_model("cait_xxs24_224", img_size=64)
    xcit = timm.create_model("xcit_nano_12_p8_224")
    for net in (cait, xcit):  # whose layers named attn_drop have the weights as output
        found = feature_maps(net.eval(), images(1, 64))
        assert found
        assert not any("attn" in name for name in found)


def transformers() -> dict[str, tuple[nn.Module, str, Callable[[Tensor], Tensor]]]:
    """Return networks, the layer to explain, and how its output for images of 64x64 is arranged, by name."""
    import timm
    from torchvision.models import SwinTransformer, VisionTransformer

    def after(prefix: int) -> Callable[[Tensor], Tensor]:
        return lambda tokens: tokens[:, prefix:].reshape(len(tokens), 4, 4, -1).permute(0, 3, 1, 2)

    def channels_first(output: Tensor) -> Tensor:
        return output.permute(0, 3, 1, 2)

    tiny = {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 2, "num_classes": 5}
    torchvision_vit = VisionTransformer(64, 16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=5)
    nn.init.normal_(torchvision_vit.heads.head.weight)  # 0 at first
    torchvision_swin = SwinTransformer([4, 4], 24, [2, 2], [2, 2], [4, 4], num_classes=5)
    timm_swin = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=64, depths=(2, 2), embed_dim=24, num_heads=(2, 2)
    )
    return {
        "class token": (timm.create_model("vit_tiny_patch16_224", **tiny), "blocks.1.norm1", after(1)),
        "registers": (timm.create_model("vit_tiny_patch16_224", reg_tokens=4, **tiny), "blocks.1.norm1", after(5)),
        "mean": (
            timm.create_model("vit_tiny_patch16_224", class_token=False, global_pool="avg", **tiny),
            "blocks.1.norm2",
            after(0),
        ),
        "RMS norm": (
            timm.create_model("vit_tiny_patch16_224", norm_layer=timm.layers.RmsNorm, **tiny),
            "blocks.1.norm1",
            after(1),
        ),
        "distilled": (timm.create_model("deit_tiny_distilled_patch16_224", **tiny), "blocks.1.norm1", after(2)),
        "torchvision": (torchvision_vit, "encoder.layers.encoder_layer_1.ln_1", after(1)),
        "swin": (timm_swin, "norm", channels_first),
        "torchvision swin": (torchvision_swin, "permute", lambda output: output),
    }


def test_tokens_of_transformers_are_arranged_as_in_the_image() -> None:
    for name, (net, layer, arrange) in transformers().items():
        torch.manual_seed(0)
        inputs, classes = images(2, 64), torch.tensor([[1], [3]])
        found = feature_maps(net.eval(), inputs)
        if name != "mean":  # where more layers follow
            assert list(found)[-1] == layer, name
        assert found[layer][1:] == (8, 8) if "swin" in name else (4, 4), name
        explain = pytorch_grad_cam.GradCAM(net, [net.get_submodule(layer)], reshape_transform=arrange)
        theirs = explain(inputs.clone(), [ClassifierOutputTarget(label) for label in classes[:, 0].tolist()])
        explain.activations_and_grads.release()
        ours = heatmaps(net, [layer], inputs, classes)[0, :, 0].numpy()
        assert ours.max() > 0.9, name
        assert np.abs(ours - theirs).max() < 1e-4, name
        rollout: list[Method] = ["attention_rollout"] * ("swin" not in name)
        assert fast_methods(net, inputs)[4:] == rollout, name
        for method in ("eigencam", "hirescam", *rollout):
            assert heatmaps(net, [layer], inputs, classes, method).shape == (1, 2, 1, 64, 64)
        if "norm" in layer:
            library = pytorch_grad_cam.AblationCAM(
                net, [net.get_submodule(layer)], reshape_transform=arrange, ablation_layer=AblationLayerVit()
            )
            theirs = library(inputs.clone(), [ClassifierOutputTarget(label) for label in classes[:, 0].tolist()])
            library.activations_and_grads.release()
            assert np.abs(heatmaps(net, [layer], inputs, classes, "ablationcam")[0, :, 0].numpy() - theirs).max() < 1e-4


# Errors


class UnusedLayerNet(Functional):
    """A net with a layer whose output is not used; ``frozen`` runs its first layer without gradients."""

    def __init__(self, frozen: bool = False) -> None:
        super().__init__()
        self.frozen = frozen

    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            x = self.first(x)
        self.unused(x)
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": ["layer9"]}, "ResNet9 has no layer 'layer9'"),
        ({"layers": ["head"]}, "does not return a feature map"),
        ({"layers": ["unused"], "net": Functional()}, "not used in the forward pass"),
        ({"layers": ["unused"], "net": UnusedLayerNet()}, "do not depend on the layer 'unused'"),
        ({"layers": ["first"], "net": UnusedLayerNet(frozen=True)}, "disables gradients"),
        ({"net": ResNet9(width=4).train()}, "call net.eval"),
        ({"classes": torch.tensor([1])}, "classes must be"),
        ({"classes": torch.tensor([[10]])}, "classes must be from 0 to 9"),
        ({"classes": torch.tensor([[1], [1]])}, "classes must be"),
        ({"method": "gradcamera"}, "method must be one of gradcam, "),
    ],
)
def test_invalid_arguments_raise(change: dict[str, Any], message: str) -> None:
    arguments = {"net": resnet9(4), "layers": ["layer3"], "inputs": images(1), "classes": torch.tensor([[1]])}
    arguments |= change
    if message != "call net.eval":
        arguments["net"].eval()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=message):
        heatmaps(**arguments)  # type: ignore[arg-type]
    assert torch.is_grad_enabled()


def test_maps_are_empty_without_layers_images_or_classes() -> None:
    net = resnet9(4)
    assert heatmaps(net, [], images(2), torch.zeros(2, 1, dtype=torch.int64)).shape == (0, 2, 1, 32, 32)
    assert heatmaps(net, ["layer3"], images(0), torch.zeros(0, 2, dtype=torch.int64)).shape == (1, 0, 2, 32, 32)
    assert heatmaps(net, ["layer3"], images(2), torch.zeros(2, 0, dtype=torch.int64)).shape == (1, 2, 0, 32, 32)


# Sanity check: maps depend on the learned weights. Adebayo et al. 2018, arXiv:1810.03292


def test_maps_change_when_weights_are_randomized_layer_by_layer(fit: Callable[..., Path]) -> None:
    run = fit("trained", "--trainer.max_epochs", 3, "--trainer.callbacks", "[]", "--model.net.width", 16)
    classifier = read_classifier(run / "checkpoints" / "last.ckpt").network
    test = Digits().load("test")
    assert test is not None
    inputs = classifier.normalize(test.pixels[:16])
    classes = classifier.net(inputs).argmax(1)[:, None]
    for method in METHODS:
        net = copy.deepcopy(classifier.net)
        [layer] = list(feature_maps(net, inputs))[-1:]
        maps = heatmaps(net, [layer], inputs, classes, method)
        weighted = [name for name, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        assert len(weighted) > 2
        torch.manual_seed(0)
        for name in reversed(weighted):  # from the last layer to the first
            before = maps
            net.get_submodule(name).reset_parameters()
            maps = heatmaps(net, [layer], inputs, classes, method)
            if method == "eigencam" and name == weighted[-1]:
                assert torch.equal(maps, before)  # it does not depend on the logits
            else:
                assert (maps - before).abs().mean() > 0.01, (method, name)
