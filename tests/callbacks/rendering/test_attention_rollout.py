"""Gradient attention rollout against the published rule, step by step."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer

from callbacks.rendering.attention_rollout import attention_rollout, has_attention
from cifar_lit.models import ResNet9

SMALL = {"img_size": 32, "patch_size": 8, "depth": 3, "embed_dim": 24, "num_heads": 3, "num_classes": 5}
CLASSES = torch.tensor([[0, 3], [1, 4]])


def vit(name: str = "vit_tiny_patch16_224", **options: Any) -> nn.Module:
    torch.manual_seed(0)
    net: nn.Module = timm.create_model(name, **SMALL, **options)
    for weight in net.parameters():  # as if trained, so that attention is not uniform
        if weight.ndim > 1:
            nn.init.normal_(weight, std=0.3)
    return net.eval()


def images() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def expected_relevance(net: nn.Module, image: Tensor, label: int) -> tuple[Tensor, Tensor]:
    """Return R (T, T) by eq. 5 and 6 of Chefer et al., with the weights that timm computes itself.

    Also return the sum of the absolute gradients of each token of the last attention's output, (T,).
    """
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    def keep_input(module: nn.Module, inputs: tuple[Tensor]) -> None:
        inputs[0].retain_grad()
        kept.append(inputs[0])

    blocks: Any = net.blocks
    handles = [blocks[-1].attn.proj.register_forward_pre_hook(keep_input)]
    for block in blocks:
        block.attn.fused_attn = False
        handles.append(block.attn.attn_drop.register_forward_hook(keep))
    net(image[None])[0, label].backward()
    for block in blocks:
        block.attn.fused_attn = True
    for handle in handles:
        handle.remove()
    *weights, output = kept
    relevance = torch.eye(weights[0].shape[-1])
    for layer in weights:
        assert layer.grad is not None
        relevance = relevance + (layer.grad * layer)[0].clamp(min=0).mean(0) @ relevance
    assert output.grad is not None
    return relevance.detach(), output.grad[0].abs().sum(1)


def test_relevance_of_a_class_token_follows_the_published_rule() -> None:
    net, inputs = vit(), images()
    logits, maps = attention_rollout(net, inputs, CLASSES)
    assert maps.shape == (2, 2, 4, 4)
    torch.testing.assert_close(logits, net(inputs), atol=1e-5, rtol=1e-5)
    for image in range(2):
        for column in range(2):
            expected = expected_relevance(net, inputs[image], int(CLASSES[image, column]))[0][0, 1:]
            assert expected.std() > 0.01 * expected.mean()
            torch.testing.assert_close(maps[image, column].flatten(), expected, atol=1e-5, rtol=1e-3)


def test_attention_of_torchvision_is_the_same_as_timms() -> None:
    """The weights of a network of timm, in one of torchvision, which fuses the projections."""
    net = vit(norm_layer=nn.LayerNorm)
    twin = VisionTransformer(32, 8, 3, 3, 24, 96, num_classes=5).eval()
    names = {
        "class_token": "cls_token",
        "encoder.pos_embedding": "pos_embed",
        "conv_proj": "patch_embed.proj",
        "encoder.ln": "norm",
        "heads.head": "head",
        "self_attention.in_proj_": "attn.qkv.",
        "self_attention.out_proj": "attn.proj",
        "encoder.layers.encoder_layer_": "blocks.",
        "ln_1": "norm1",
        "ln_2": "norm2",
        "mlp.0": "mlp.fc1",
        "mlp.3": "mlp.fc2",
    }
    weights = {}
    for name in twin.state_dict():
        ours = name
        for theirs, of_timm in names.items():
            ours = ours.replace(theirs, of_timm)
        weights[name] = net.state_dict()[ours]
    twin.load_state_dict(weights)
    for module in twin.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-5
    expected = attention_rollout(net, images(), CLASSES)
    for found, wanted in zip(attention_rollout(twin, images(), CLASSES), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("options", [{"class_token": False, "global_pool": "avg"}, {"reg_tokens": 4}])
def test_the_output_tokens_are_found_by_their_gradients(options: dict[str, Any]) -> None:
    net = vit(**options)
    [relevance] = attention_rollout(net, images()[:1], CLASSES[:1, :1])[1][0]
    expected, gradients = expected_relevance(net, images()[0], int(CLASSES[0, 0]))
    if "reg_tokens" in options:
        assert gradients[1:].max() == 0  # only the class token counts
    rows = gradients / gradients.sum() @ expected
    torch.testing.assert_close(relevance.flatten(), rows[-16:], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("kind", ["frozen", "compiled", "wrapped by torch.compile", "inference mode", "bfloat16"])
def test_relevance_does_not_depend_on_how_the_network_is_run(kind: str) -> None:
    net, inputs = vit(), images()
    expected = attention_rollout(net, inputs, CLASSES)[1]
    assert all(weight.grad is None for weight in net.parameters())
    if kind == "compiled":
        net.compile(backend="eager")
        net(inputs)
    seen = torch.compile(net, backend="eager") if kind.startswith("wrapped") else net
    net.requires_grad_(kind != "frozen")
    with torch.inference_mode(kind == "inference mode"), torch.autocast("cpu", enabled=kind == "bfloat16"):
        found = attention_rollout(seen, inputs.clone(), CLASSES.clone())[1]  # type: ignore[arg-type]
    if kind == "bfloat16":
        assert torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1] > 0.95
    else:
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)


class OneHead(nn.Module):
    """Attention of a single head, without a dimension for it."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens).mean(1)


class UsesWeights(nn.Module):
    """A network that uses the attention weights itself."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(3, 1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x[:, :, ::8, ::8].flatten(2).transpose(1, 2)
        output, weights = self.attention(tokens, tokens, tokens)
        return output.mean(1) * weights.mean((1, 2))[:, None]


def swin() -> nn.Module:
    size = {"img_size": 64, "patch_size": 2, "window_size": 4, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4)}
    net: nn.Module = timm.create_model("swin_tiny_patch4_window7_224", **size)
    return net


@pytest.mark.parametrize("build", [lambda: ResNet9(width=4), swin, OneHead, UsesWeights])
def test_networks_without_global_attention_are_refused(build: Callable[[], nn.Module]) -> None:
    net, inputs = build(), torch.randn(1, 3, 64, 64)
    assert not has_attention(net, inputs)
    with pytest.raises(ValueError, match="attention rollout needs a network with global self-attention"):
        attention_rollout(net.eval(), inputs)


def test_invalid_arguments_raise() -> None:
    assert has_attention(vit().train(), images())
    with pytest.raises(ValueError, match="in training mode"):
        attention_rollout(vit().train(), images())
    with pytest.raises(ValueError, match="classes must be from 0 to 4"):
        attention_rollout(vit(), images(), CLASSES + 1)
