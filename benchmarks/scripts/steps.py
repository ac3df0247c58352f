"""Training steps of the airbench network in a bare loop, with each speed-up switched on or off.

python -m benchmarks.scripts.steps '{"channels_last": false}'
Prints one line of JSON: images_per_second, from the median step.
"""

import json
import statistics
import sys
import time
from contextlib import nullcontext

import torch
import torch.nn.functional as F

from cifar_lit import models
from cifar_lit.malloc import keep_freed_memory
from cifar_lit.training.optim.muon import ConvMuon
from cifar_lit.training.small_convolutions import speed_up_small_convolutions

DEFAULTS = {
    "memory_kept": True,  # see cifar_lit/malloc.py
    "channels_last": True,
    "bfloat16": True,
    "side_by_side": True,  # see cifar_lit/training/small_convolutions.py
    "muon": True,  # if false, SGD for the filters too
    "whitening_bias": True,  # trainable, so that the backward pass reaches the first layer
    "compiled": False,
    "size": 32,
    "batch": 1000,
    "steps": 8,
}


def main(changes):
    settings = DEFAULTS | changes
    if settings["memory_kept"]:
        keep_freed_memory()
    layout = torch.channels_last if settings["channels_last"] else torch.contiguous_format
    net = models.AirbenchNet().to(memory_format=layout)
    if not settings["whitening_bias"]:
        net.whiten.bias.requires_grad_(False)
    if settings["side_by_side"]:
        speed_up_small_convolutions(net)
    normalize = models.PixelNormalization([0.5] * 3, [0.25] * 3)
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    optimizers = create_optimizers(weights, settings)
    forward = torch.compile(net) if settings["compiled"] else net
    pixels = torch.randint(0, 256, (settings["batch"], 3, settings["size"], settings["size"]), dtype=torch.uint8)
    labels = torch.randint(0, 10, (settings["batch"],))
    seconds = []
    for _ in range(settings["steps"]):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16) if settings["bfloat16"] else nullcontext():
            logits = forward(normalize(pixels).contiguous(memory_format=layout))
        F.cross_entropy(logits.float(), labels, label_smoothing=0.2).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"images_per_second": settings["batch"] / statistics.median(seconds[2:])}))


def create_optimizers(weights, settings):
    filters = [weight for weight in weights if weight.ndim == 4 and settings["muon"]]
    others = [weight for weight in weights if weight.ndim != 4 or not settings["muon"]]
    optimizers = [torch.optim.SGD(others, lr=1e-3, momentum=0.85, nesterov=True, fused=True)]
    return [*optimizers, ConvMuon(filters)] if filters else optimizers


if __name__ == "__main__":
    main(json.loads(sys.argv[1]) if len(sys.argv) > 1 else {})
