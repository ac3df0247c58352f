"""Gradient attention rollout: which parts of an image a vision transformer attends to for a class."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from callbacks.rendering.activations import capture_activations, target_classes, to_map, uncompiled

_IMAGES = 4  # at a time, since the attention weights of all layers are kept
_NEEDED = "attention rollout needs a network with global self-attention, such as ViT or DeiT"


def attention_rollout(net: nn.Module, inputs: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return logits float32 (N, classes), and the relevance of the image's tokens, float32 (N, K, h, w), at least 0.

    Combines the attention of all layers. Each token must attend to all others through PyTorch's own functions, as in
    the vision transformers of torchvision and timm.

    Args:
        net: Any network in evaluation mode; it is not modified.
        inputs: float (N, C, H, W), the network's input.
        classes: int64 (N, K), the classes to explain for each image; by default the predicted ones.

    Raises:
        ValueError: If the network is in training mode, has no such attention or disables gradients, or there is no
            such class.

    Source: Chefer et al. 2021, arXiv:2103.15679, eq. 5 and 6, which follow the class token. Here, they follow the
        output tokens of the last attention, weighted by their gradients, since some networks have no class token.
    """
    chunks = inputs.split(_IMAGES)
    targets = [None] * len(chunks) if classes is None else classes.split(_IMAGES)
    results = [_rollout(net, *chunk) for chunk in zip(chunks, targets, strict=True)]
    logits, maps = zip(*results, strict=True)
    return torch.cat(logits), torch.cat(maps)


def has_attention(net: nn.Module, inputs: Tensor) -> bool:
    """Return whether ``attention_rollout`` works for a network, in training or evaluation mode; one image is enough."""
    try:
        attention_rollout(copy.deepcopy(uncompiled(net)).eval(), inputs[:1])
    except (ValueError, RuntimeError):
        return False
    return True


def _rollout(net: nn.Module, inputs: Tensor, classes: Tensor | None) -> tuple[Tensor, Tensor]:
    with capture_activations(net, []) as (view, _), torch.enable_grad():
        with _AttentionRecorder() as recorder:
            logits = view(inputs.clone().requires_grad_().clone()).float()  # it may modify its input
        if not recorder.weights or recorder.output is None or not logits.requires_grad:
            raise ValueError(_NEEDED)
        columns = []
        for column in target_classes(logits, classes).T:
            score = logits.gather(1, column[:, None]).sum()  # an image affects its own logit only
            gradients = torch.autograd.grad(
                score, [*recorder.weights, recorder.output], retain_graph=True, allow_unused=True
            )
            relevance = to_map(_relevance(recorder.weights, gradients)[..., None], inputs.shape[2:])
            if relevance is None:
                raise ValueError(f"{_NEEDED}: the tokens do not cover the image")
            columns.append(relevance[:, 0])
    return logits.detach(), torch.stack(columns, 1)


def _relevance(weights: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> Tensor:
    """Return the relevance of each token, float32 (N, T).

    Args:
        weights: Attention weights of each layer, float (N, heads, Q, K).
        gradients: Gradients of a logit with respect to each of these, then to the last layer's output, float
            (N, heads, Q, channels).
    """
    *of_weights, of_output = gradients
    if of_output is None:
        raise ValueError(_NEEDED)
    relevance = of_output.float().abs().sum((1, 3))
    relevance = relevance / relevance.sum(1, keepdim=True).clamp(min=torch.finfo().tiny)
    for layer_weights, gradient in zip(reversed(weights), reversed(of_weights), strict=True):
        if gradient is None or (len(layer_weights), layer_weights.shape[2]) != relevance.shape:
            raise ValueError(_NEEDED)
        mixed = (layer_weights.detach().float() * gradient.float()).relu().mean(1)  # (N, Q, K)
        moved = (relevance[:, None] @ mixed)[:, 0]
        relevance = moved + relevance if moved.shape == relevance.shape else moved
    return relevance


class _AttentionRecorder(TorchFunctionMode):
    """Record the attention of PyTorch's functions in this thread, by computing its weights explicitly.

    weights: float (N, heads, Q, K) of each call.
    output: float (N, heads, Q, channels) of the last call.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []
        self.output: Tensor | None = None

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Intercept the attention functions; call all others unchanged."""
        if function is F.scaled_dot_product_attention:
            return self._attend(*args, **(kwargs or {}))
        if function is F.multi_head_attention_forward:
            return self._attend_with_projections(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if query.ndim != 4 or attn_mask is not None or dropout_p or is_causal or enable_gqa:
            raise ValueError(_NEEDED)
        scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-2, -1)
        self.weights.append(scores.softmax(-1))
        self.output = self.weights[-1] @ value
        return self.output

    def _attend_with_projections(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        channels: int,
        heads: int,
        in_weight: Tensor | None,
        in_bias: Tensor | None,
        *rest: Any,
        **options: Any,
    ) -> tuple[Tensor, None]:
        """Do what ``F.multi_head_attention_forward`` does for tokens (T, N, channels) that attend to each other."""
        bias_k, bias_v, add_zero_attn, _, out_weight, out_bias = rest
        masked = [options.get(name) is not None for name in ("attn_mask", "key_padding_mask")]
        if query is not key or key is not value or query.ndim != 3 or in_weight is None or options["need_weights"]:
            raise ValueError(_NEEDED)
        if any(masked) or bias_k is not None or bias_v is not None or add_zero_attn:
            raise ValueError(_NEEDED)
        projected = F.linear(query, in_weight, in_bias).unflatten(-1, (3, heads, channels // heads))
        parts = (part.permute(1, 2, 0, 3) for part in projected.unbind(2))  # (N, heads, T, channels / heads)
        output = self._attend(*parts)
        return F.linear(output.permute(2, 0, 1, 3).flatten(2), out_weight, out_bias), None
