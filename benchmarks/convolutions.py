"""How close training comes to the best speed of its convolutions alone."""

import json
import statistics
import sys
import time

import torch
from torch import nn

from benchmarks.results import Result, result
from benchmarks.variants import ROOT, FitVariant, Variant, alternate
from cifar_lit.malloc import keep_freed_memory
from cifar_lit.models import AirbenchNet

_BATCH = 500  # small enough for activations to reuse memory pages that are already mapped


def convolution_limit(quick: bool) -> list[Result]:
    """Compare the throughput of ``fit`` on the airbench network with that of its convolutions alone at their best."""
    batches, rounds = (4, 1) if quick else (20, 3)
    fit = FitVariant(
        *("--config", ROOT / "configs" / "airbench94.yaml", "--data", "benchmarks.random_images.RandomImages"),
        *("--data.augment", "[AlternatingFlip, {class_path: RandomCrop, init_args: {padding: 2}}]"),
        *("--data.batch_size", _BATCH, "--data.val_fraction", 0),
        *("--trainer.limit_train_batches", batches, "--trainer.max_epochs", 3),
    )
    limit = Variant("-m", "benchmarks.convolutions", 2 if quick else 5)
    measured = alternate({"fit": fit, "limit": limit}, rounds)
    speeds = [sum(run["images"][1:]) / sum(run["training"][1:]) for run in measured["fit"]]
    limits = [run["images_per_second"] for run in measured["limit"]]
    figures = f"{statistics.median(speeds):.0f} and {statistics.median(limits):.0f} images/s"
    ratios = [speed / best for speed, best in zip(speeds, limits, strict=True)]
    return [
        result(
            "`fit` of the airbench network, share of its convolutions' best speed alone",
            ratios,
            "≥ 0.8",
            figures,
            quick,
        )
    ]


def convolution_seconds(rounds: int) -> float:
    """Return the seconds of a forward and backward pass of a batch through all convolutions, each at its best."""
    net = AirbenchNet()
    shapes: list[tuple[nn.Conv2d, torch.Size]] = []
    hooks = [
        layer.register_forward_hook(lambda layer, inputs, _: shapes.append((layer, inputs[0].shape)))
        for layer in net.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    net(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    return sum(
        _best_seconds(layer, shape, first=index == 0, rounds=rounds) for index, (layer, shape) in enumerate(shapes)
    )


def _best_seconds(layer: nn.Conv2d, shape: torch.Size, first: bool, rounds: int) -> float:
    best = float("inf")
    for dtype in (torch.float32, torch.bfloat16):
        for layout in (torch.contiguous_format, torch.channels_last):
            convolution = nn.Conv2d(
                layer.in_channels, layer.out_channels, layer.kernel_size, padding=layer.padding, bias=False
            ).to(dtype, memory_format=layout)
            convolution.weight.requires_grad_(not first)  # the whitening filters are not trained
            inputs = torch.randn(_BATCH, *shape[1:]).to(dtype, memory_format=layout)
            inputs.requires_grad_(not first)
            gradient = torch.ones_like(convolution(inputs))
            for _ in range(rounds + 1):
                start = time.perf_counter()
                outputs = convolution(inputs)
                if not first:
                    outputs.backward(gradient)
                best = min(best, time.perf_counter() - start)
                convolution.weight.grad = inputs.grad = None
    return best


if __name__ == "__main__":
    keep_freed_memory()
    print(json.dumps({"images_per_second": _BATCH / convolution_seconds(int(sys.argv[1]))}))
