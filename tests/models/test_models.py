import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from cifar_lit import models
from cifar_lit.errors import InputError
from cifar_lit.models import AirbenchNet, PixelNormalization, ResNet9, ResNet18, TinyNet, WideResNet
from cifar_lit.models.factory import build_network
from cifar_lit.models.whitening import WhiteningConv, fit_whitening, whitening_layers
from tests.support import airbench_reference
from tests.support.program import ROOT

# S0 to S4 were counted in the original implementations; WRN-28-10 has "36.5M" in table 4 of the paper
NETWORKS = {
    "S0": (lambda: ResNet9(head="conv"), 6_573_120),
    "S1": (lambda: ResNet9(residual_layers=(1, 2, 3), bias=True, relu_before_add=True), 7_756_554),
    "S2": (lambda: ResNet9(relu_before_add=True), 6_573_130),
    "S3": (ResNet18, 11_173_962),
    "S4": (lambda: ResNet9(bias=True, relu_before_add=True, dropout=0.05), 6_575_370),
    "WRN-28-10": (lambda: WideResNet(depth=28, width=10), 36_479_194),
    "WRN-16-4": (WideResNet, 2_748_890),
    "airbench94": (AirbenchNet, 1_972_792),  # 1.97 million in arXiv:2404.00498
    "airbench96": (lambda: AirbenchNet(widths=(128, 512, 512), depth=3), 12_721_208),
    "tiny": (TinyNet, 1_586),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_parameter_counts_are_pinned(name: str) -> None:
    make, count = NETWORKS[name]
    assert sum(parameter.numel() for parameter in make().parameters()) == count


def test_every_public_network_has_a_pinned_count() -> None:
    public = {getattr(models, name) for name in models.NETWORKS}
    assert {type(make()) for make, _ in NETWORKS.values()} == public


@pytest.mark.parametrize("network", [AirbenchNet, ResNet9, ResNet18, WideResNet, TinyNet])
@pytest.mark.parametrize("size", [(32, 32), (48, 40)])
def test_networks_return_one_logit_per_class_for_any_image_size(
    network: type[nn.Module], size: tuple[int, int]
) -> None:
    assert network(num_classes=7)(torch.randn(2, 3, *size)).shape == (2, 7)


def smooth_images(count: int) -> torch.Tensor:
    """Return images with correlated neighboring pixels, float (count, 3, 16, 16)."""
    noise = torch.randn(count, 3, 18, 18, generator=torch.Generator().manual_seed(0))
    return nn.functional.avg_pool2d(noise, 3, stride=1) * torch.tensor([1.0, 2.0, 0.5]).view(3, 1, 1)


def test_whitened_patches_are_uncorrelated_with_unit_variance() -> None:
    images = smooth_images(600)
    layer = WhiteningConv(eps=0.0)
    layer.fit(images.split(250))
    with torch.no_grad():
        outputs = nn.functional.conv2d(images, layer.weight).transpose(0, 1).flatten(1)  # (24, N * positions)
    moments = outputs[:12] @ outputs[:12].T / outputs.shape[1]
    torch.testing.assert_close(moments, torch.eye(12), atol=1e-3, rtol=0)
    torch.testing.assert_close(outputs[12:], -outputs[:12])
    assert not layer.weight.requires_grad
    assert layer.bias is not None
    assert layer.bias.requires_grad


def test_whitening_filters_match_the_reference_script() -> None:
    net = AirbenchNet()
    fit_whitening(net, [smooth_images(300)])
    [layer] = whitening_layers(net)
    expected = airbench_reference.whitening(smooth_images(300))
    signs = (layer.weight * expected).flatten(1).sum(1).sign()  # arbitrary for eigenvectors
    torch.testing.assert_close(layer.weight.detach(), expected * signs.view(-1, 1, 1, 1), atol=1e-2, rtol=1e-2)


def test_untrained_airbench_convolution_passes_its_input_through() -> None:
    convolution = AirbenchNet().groups[0].first[0]
    inputs = torch.randn(2, 24, 8, 8)
    torch.testing.assert_close(convolution(inputs)[:, :24], inputs)


def test_only_airbench_groups_of_depth_3_have_a_shortcut() -> None:
    for depth in (2, 3):
        group = AirbenchNet(widths=(8, 8, 8), depth=depth).groups[1].eval()
        nn.init.zeros_(group.branch[-2].weight)  # so that the branch outputs zeros
        is_zero = bool((group(torch.randn(2, 8, 8, 8)) == 0).all())
        assert is_zero is (depth == 2)


def test_residual_places_its_last_relu_before_or_after_the_addition() -> None:
    before, after = ResNet9(width=8, relu_before_add=True), ResNet9(width=8)
    assert not list(before.layer1[1].after)
    assert [type(layer) for layer in after.layer1[1].after] == [nn.ReLU]
    assert [type(layer) for layer in before.layer1[1].branch[1]] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert [type(layer) for layer in after.layer1[1].branch[1]] == [nn.Conv2d, nn.BatchNorm2d]


def test_conv_block_pools_before_its_norm() -> None:
    layers = [type(layer) for layer in ResNet9(width=8, dropout=0.1).layer2[0]]
    assert layers == [nn.Conv2d, nn.MaxPool2d, nn.BatchNorm2d, nn.ReLU, nn.Dropout]


def test_global_max_pool_equals_a_4x4_max_pool_for_32x32_images() -> None:
    features = torch.randn(2, 8, 4, 4)
    assert torch.equal(ResNet9(width=1).pool(features), nn.MaxPool2d(4)(features))


@pytest.mark.parametrize(("norm", "groups"), [("group", 2), ("layer", 1)])
def test_norm_is_selectable(norm: str, groups: int) -> None:
    net = ResNet9(width=64, norm=norm)  # type: ignore[arg-type]
    norms = [layer for layer in net.modules() if isinstance(layer, nn.GroupNorm)]
    assert norms[0].num_groups == groups
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in net.modules())


@pytest.mark.parametrize("depth", [17, 4])
def test_wide_resnet_refuses_depths_other_than_6n_plus_4(depth: int) -> None:
    with pytest.raises(InputError, match=r"6 n \+ 4"):
        WideResNet(depth=depth)


def test_normalized_pixels_have_mean_0_and_std_1() -> None:
    pixels = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8)
    scaled = pixels.double() / 255
    mean, std = scaled.mean((0, 2, 3)), scaled.std((0, 2, 3), correction=0)
    images = PixelNormalization(mean.tolist(), std.tolist())(pixels).double()
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(images.std((0, 2, 3), correction=0), torch.ones(3).double(), atol=1e-5, rtol=0)


def test_build_network_accepts_only_modules_and_functions_annotated_to_return_one() -> None:
    recipe = {"class_path": "torch.nn.Sequential", "init_args": {}}
    assert isinstance(build_network(recipe), nn.Sequential)
    resnet = build_network({"class_path": "torchvision.models.resnet18", "dict_kwargs": {"num_classes": 3}})
    assert resnet.fc.out_features == 3  # type: ignore[union-attr]
    with pytest.raises(TypeError, match=r"os\.mkdir is not a torch"):
        build_network({"class_path": "os.mkdir", "init_args": {"path": "planted"}})
    assert not Path("planted").exists()  # os.mkdir was not called


def test_networks_are_imported_without_lightning() -> None:
    code = "import sys, cifar_lit.models; sys.exit('lightning' in sys.modules or 'torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
