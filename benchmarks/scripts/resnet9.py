"""S4's ResNet-9 in a bare loop, without data loading, logging or checkpoints: the baseline of `fit`.

python -m benchmarks.scripts.resnet9 BATCH_SIZE BATCHES VALIDATION_IMAGES EPOCHS
Prints one line of JSON in the format of benchmarks.clock.
"""

import json
import sys
import time

import torch
import torch.nn.functional as F

from benchmarks.clock import memory
from cifar_lit.malloc import keep_freed_memory
from cifar_lit.models import PixelNormalization, ResNet9
from cifar_lit.training.precision import fastest_precision


def main(batch_size, batches, validation_images, epochs):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = torch.bfloat16 if fastest_precision("auto") == "bf16-mixed" else torch.float32
    images = torch.randint(0, 256, (50_000, 3, 32, 32), dtype=torch.uint8).to(device)  # as many as in `fit`
    labels = torch.randint(0, 10, (50_000,)).to(device)
    normalize = PixelNormalization([0.5] * 3, [0.25] * 3).to(device)
    net = ResNet9(bias=True, relu_before_add=True, dropout=0.05).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=epochs * batches)

    def forward(rows):
        pixels = images[rows].to(device)
        with torch.autocast(device, precision, enabled=precision != torch.float32):
            return net(normalize(pixels).contiguous(memory_format=torch.channels_last)).float()

    measured = {"training": [], "evaluation": [], "images": []}
    for _ in range(epochs):
        start = time.perf_counter()
        net.train()
        for rows in torch.randperm(50_000)[: batches * batch_size].split(batch_size):
            F.cross_entropy(forward(rows), labels[rows].to(device)).backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.synchronize()
        trained = time.perf_counter()
        net.eval()
        correct = torch.zeros((), device=device)
        with torch.inference_mode():
            for rows in torch.arange(validation_images).split(batch_size):
                correct += (forward(rows).argmax(1) == labels[rows].to(device)).sum()
        correct.item()  # waits for the device
        measured["training"].append(trained - start)
        measured["evaluation"].append(time.perf_counter() - trained)
        measured["images"].append(batches * batch_size)
    print(json.dumps(measured | memory()))


if __name__ == "__main__":
    keep_freed_memory()
    main(*map(int, sys.argv[1:]))
