"""Steps of a network, by default airbench's, in a bare loop, with or without each part that makes them fast.

python -m benchmarks.scripts.steps '{"channels_last": false}'
Prints one line of JSON: images_per_second, the median of its steps.
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

ALL = {
    "net": "AirbenchNet",
    "memory_kept": True,  # see cifar_lit/malloc.py
    "channels_last": True,
    "bfloat16": True,
    "fused": True,  # the optimizer of biases and head, or Adam
    "muon": True,  # else SGD for the filters too
    "adam": False,  # for all weights, in place of both
    "whitening_bias": True,  # trained, so that the backward pass goes down to the first layer
    "compiled": False,
    "size": 32,
    "batch": 1000,
    "steps": 8,
}


def main(changes):
    chosen = ALL | changes
    if chosen["memory_kept"]:
        keep_freed_memory()
    layout = torch.channels_last if chosen["channels_last"] else torch.contiguous_format
    net = getattr(models, chosen["net"])().to(memory_format=layout)
    if not chosen["whitening_bias"]:
        net.whiten.bias.requires_grad_(False)
    normalize = models.PixelNormalization([0.5] * 3, [0.25] * 3)
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    optimizers = optimizers_of(weights, chosen)
    forward = torch.compile(net) if chosen["compiled"] else net
    pixels = torch.randint(0, 256, (chosen["batch"], 3, chosen["size"], chosen["size"]), dtype=torch.uint8)
    labels = torch.randint(0, 10, (chosen["batch"],))
    seconds = []
    for _ in range(chosen["steps"]):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16) if chosen["bfloat16"] else nullcontext():
            logits = forward(normalize(pixels).contiguous(memory_format=layout))
        F.cross_entropy(logits.float(), labels, label_smoothing=0.2).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"images_per_second": chosen["batch"] / statistics.median(seconds[2:])}))


def optimizers_of(weights, chosen):
    if chosen["adam"]:
        return [torch.optim.Adam(weights, fused=chosen["fused"])]
    filters = [weight for weight in weights if weight.ndim == 4 and chosen["muon"]]
    others = [weight for weight in weights if weight.ndim != 4 or not chosen["muon"]]
    optimizers = [torch.optim.SGD(others, lr=1e-3, momentum=0.85, nesterov=True, fused=chosen["fused"])]
    return [*optimizers, ConvMuon(filters)] if filters else optimizers


if __name__ == "__main__":
    main(json.loads(sys.argv[1]) if len(sys.argv) > 1 else {})
