import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cifar_lit.models.resnet9 import ResNet9
from cifar_lit.training import small_convolutions
from cifar_lit.training.small_convolutions import speed_up_small_convolutions


@pytest.fixture(autouse=True)
def _amx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that the CPU has AMX, without which nothing is changed, and include narrow convolutions."""
    monkeypatch.setattr(small_convolutions, "_MIN_CHANNELS", 1)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"amx_bf16": True})


def gradients(net: nn.Module, images: Tensor) -> list[Tensor]:
    """Return the output of a network in bfloat16, and the gradients of its input and weights."""
    images = images.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        output = net(images)
    torch.manual_seed(1)
    output.float().backward(torch.randn(output.shape))
    return [output, images.grad, *(weight.grad for weight in net.parameters())]  # type: ignore[list-item]


@pytest.mark.parametrize("images", [1, 7, 12, 16])  # 7 can only be laid out one by one
@pytest.mark.parametrize(("height", "width"), [(2, 3), (4, 4), (7, 7), (5, 8), (16, 16)])
@pytest.mark.parametrize(
    ("kernel", "padding"), [(3, 1), (1, 0), ((1, 5), "same"), ((5, 3), (2, 1)), ((1, 99), (0, 49))]
)
def test_gradients_equal_those_of_the_ordinary_convolution(
    images: int, height: int, width: int, kernel: Any, padding: Any
) -> None:
    torch.manual_seed(0)
    ordinary = nn.Conv2d(6, 5, kernel, padding=padding, bias=images > 7).to(memory_format=torch.channels_last)
    fast = copy.deepcopy(ordinary)
    speed_up_small_convolutions(fast)
    assert isinstance(fast, small_convolutions.SideBySideConv2d) is (padding != "same")
    inputs = torch.randn(images, 6, height, width).to(memory_format=torch.channels_last)
    output, *expected = gradients(ordinary, inputs)
    actual_output, *actual = gradients(fast, inputs)
    assert torch.equal(actual_output, output)
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert (one - other).norm() < 0.01 * other.norm()


def test_only_convolutions_that_keep_the_size_are_changed() -> None:
    convolutions = [
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding=1, stride=2),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
    ]
    net = nn.Sequential(*convolutions, nn.Conv2d(4, 4, 3, padding=1))
    speed_up_small_convolutions(net)
    assert [type(layer) is nn.Conv2d for layer in net] == [True] * 5 + [False]


def test_a_network_keeps_its_weights_and_can_be_copied() -> None:
    net = ResNet9(width=4)
    names = list(net.state_dict())
    speed_up_small_convolutions(net)
    twin = copy.deepcopy(net)
    assert list(twin.state_dict()) == names
    inputs = torch.randn(4, 3, 32, 32)
    for one, other in zip(gradients(net, inputs), gradients(twin, inputs), strict=True):
        assert torch.equal(one, other)


def test_all_but_training_in_bfloat16_is_left_to_the_ordinary_convolution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(small_convolutions._SideBySide, "apply", fail)
    layer = nn.Conv2d(3, 3, 3, padding=1)
    speed_up_small_convolutions(layer)
    layer(torch.randn(2, 3, 4, 4)).sum().backward()  # float32
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        layer(torch.randn(2, 3, 4, 4))
        layer.requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        layer(torch.randn(2, 3, 4, 4))
        layer.requires_grad_(True)
        layer(torch.randn(3, 4, 4)).sum().backward()  # a single image
        layer.eval()(torch.randn(2, 3, 4, 4)).sum().backward()


def test_without_amx_or_with_few_channels_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_convolutions, "_MIN_CHANNELS", 4)
    layer = nn.Conv2d(4, 3, 3, padding=1)
    speed_up_small_convolutions(layer)
    assert type(layer) is nn.Conv2d
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": True})
    layer = nn.Conv2d(4, 4, 3, padding=1)
    speed_up_small_convolutions(layer)
    assert type(layer) is nn.Conv2d
