"""Decode photos, start with decoded ones, or train on them in a bare loop.

python -m benchmarks.scripts.photos decode|two_processes|start FOLDER CACHE
python -m benchmarks.scripts.photos train FOLDER CACHE BATCHES EPOCHS
Prints one line of JSON.
"""

import json
import multiprocessing
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torchvision.models import mobilenet_v3_small

from benchmarks.clock import memory
from cifar_lit.data.augment import HorizontalFlip, apply_augmentations
from cifar_lit.data.augment_geometry import RandomResizedCrop
from cifar_lit.data.folders import ClassFolders
from cifar_lit.malloc import keep_freed_memory
from cifar_lit.models import PixelNormalization
from cifar_lit.randomness import SampleRandom

SIZE = 224


def images(folder, cache):
    return ClassFolders(folder, image_size=SIZE, cache_dir=cache).load("train")


def decode_plainly(path):
    with Image.open(path) as image:
        return np.asarray(ImageOps.fit(image.convert("RGB"), (SIZE, SIZE), Image.Resampling.BILINEAR))


def decode(kind, folder, cache):
    if kind != "start":
        shutil.rmtree(cache, ignore_errors=True)
    start = time.perf_counter()
    if kind == "two_processes":
        files = sorted(Path(folder).rglob("*.jpg"))
        pixels = np.empty((len(files), SIZE, SIZE, 3), np.uint8)
        with multiprocessing.Pool(2) as pool:
            for row, image in enumerate(pool.imap(decode_plainly, files, chunksize=16)):
                pixels[row] = image
    else:
        images(folder, cache)
    print(json.dumps({"seconds": time.perf_counter() - start}))


def train(folder, cache, batches, epochs):
    data = images(folder, cache)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    normalize = PixelNormalization([0.5] * 3, [0.25] * 3).to(device)
    net = mobilenet_v3_small(num_classes=5).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    augment = [RandomResizedCrop(), HorizontalFlip()]
    measured = {"training": [], "evaluation": [0.0] * epochs, "images": []}
    for epoch in range(epochs):
        start = time.perf_counter()
        for rows in torch.randperm(len(data))[: 32 * batches].split(32):
            random = SampleRandom(0, epoch, rows)
            pixels = apply_augmentations(augment, data.pixels[rows], random, [0.5] * 3).to(device)
            inputs = normalize(pixels).contiguous(memory_format=torch.channels_last)
            F.cross_entropy(net(inputs), data.labels[rows].to(device)).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.synchronize()
        measured["training"].append(time.perf_counter() - start)
        measured["images"].append(32 * batches)
    print(json.dumps(measured | memory()))


if __name__ == "__main__":
    keep_freed_memory()
    if sys.argv[1] == "train":
        train(*sys.argv[2:4], *map(int, sys.argv[4:]))
    else:
        decode(*sys.argv[1:])
