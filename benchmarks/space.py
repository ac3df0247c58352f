"""Start-up and response times of an exported Space."""

import os
import runpy
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from benchmarks.timing import print_table, side_by_side, summary
from callbacks.rendering.activations import capture_activations
from cifar_lit.inference.bundle import read_bundle
from space.app.loaded_bundle import LoadedBundle
from space.app.service import ExplainOptions, classify, read_images

_FIRST_ANSWER = """
import time
start = time.perf_counter()
from pathlib import Path
import app
from space.app.service import ExplainOptions, classify
from space.app.page import build
from space.app.loaded_bundle import LoadedBundle
loaded = LoadedBundle.load(Path("bundle"), "", app.NETWORKS)
build(loaded)
example = f"bundle/examples/{loaded.metadata.examples[0]['file']}"
classify(loaded.network, [example], ExplainOptions(1, list(loaded.network.layers)[-1], "gradcam"))
print(time.perf_counter() - start)
"""


def space(folder: str, rounds: int = 5) -> None:
    """Measure an exported Space's cold start, from the first import to the first answer, and its later answers.

    Args:
        folder: Folder written by ``export``, with examples.
        rounds: Number of starts to measure, after a warm-up; answers are measured six times as often.
    """
    environment = {**os.environ, "PYTHONPATH": ""}
    starts = []
    for _ in range(rounds + 1):
        command = [sys.executable, "-c", _FIRST_ANSWER]
        completed = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
        starts.append(float(completed.stdout))
    low, high = min(starts[1:]), max(starts[1:])
    print_table(
        ["cold start, first import to first answer", "s, median (min to max)"],
        [["total", f"{statistics.median(starts[1:]):.1f} ({low:.1f} to {high:.1f})"]],
    )
    _measure_answers(Path(folder), 6 * rounds)


def _measure_answers(folder: Path, rounds: int) -> None:
    loaded = LoadedBundle.load(folder / "bundle", "", runpy.run_path(str(folder / "app.py"))["NETWORKS"])
    network, layer = loaded.network, list(loaded.network.layers)[-1]
    classifier = read_bundle(folder / "bundle", runpy.run_path(str(folder / "app.py"))["NETWORKS"]).network
    files = [str(folder / "bundle" / "examples" / example["file"]) for example in loaded.metadata.examples]
    images = classify(network, files, ExplainOptions(len(files), layer, "gradcam")).images
    inputs = np.stack([image.pixels for image in images])
    pixels = torch.from_numpy(inputs).permute(0, 3, 1, 2).contiguous()

    def one_pass() -> None:
        """Run a forward pass of all images and a backward pass from the predicted logits to the layer."""
        with capture_activations(classifier.net, [layer]) as (forward, activations):
            logits = forward(classifier.preprocess(pixels))
            torch.autograd.grad(logits.amax(1).sum(), activations[layer])

    def library() -> None:
        for image, label in zip(pixels, [image.predicted for image in images], strict=True):
            net = classifier.net.requires_grad_(True)
            explain = GradCAM(net, [net.get_submodule(layer)])
            explain(classifier.preprocess(image[None]), [ClassifierOutputTarget(label)])

    def recompose() -> None:
        for image in images:
            image.overlays(0.3)

    calls = {
        "one forward and one backward pass": one_pass,
        "this project, classify and explain": lambda: network.run(inputs, len(inputs), None, layer, "gradcam"),
        "grad-cam library, one by one": library,
        "read 10 small files": lambda: read_images(files, network.recipe.resizing),
        "recompose 10 overlays at another opacity": recompose,
    }
    times = side_by_side(calls, rounds)
    base = times["one forward and one backward pass"]
    print()
    rows = [
        [name, summary(values), f"{statistics.median(values[i] / base[i] for i in range(rounds)):.2f}"]
        for name, values in times.items()
    ]
    print_table(["10 images", "ms, median (quartiles)", "ratio"], rows)
