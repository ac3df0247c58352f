"""Fine-tune on few images of new classes, from weights trained on other classes and from scratch."""

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.datasets import CIFAR10

from benchmarks.results import commit, machine, replace_section
from benchmarks.variants import ROOT, run_python
from callbacks.rendering.markdown import table

_KNOWN, _NEW = range(5), range(5, 10)  # classes: airplane to deer, and dog to truck
_TUNING = ("--model.layer_decay", "0.7")
_COMMON = ("--model.net.width", "16", "--data.val_fraction", "0", "--trainer.callbacks", "[]", "--data.batch_size")


def finetune(
    data: str = "data", counts: Sequence[int] = (50, 100, 500), epochs: Sequence[int] = (10, 30), seed: int = 1
) -> None:
    """Train on classes 0 to 4 of CIFAR-10, fine-tune on few images of each of classes 5 to 9, and compare with scratch.

    The network, its recipe and the new images are the same; all 5,000 test images of classes 5 to 9 are evaluated.

    Args:
        data: Folder that holds ``cifar-10-batches-py``; downloaded if missing.
        counts: Numbers of training images of each new class.
        epochs: Lengths of the runs.
        seed: Seed of all runs.
    """
    folder = Path("runs", "finetune").absolute()
    for name, classes, count in (("known", _KNOWN, 5000), *((f"new_{count}", _NEW, count) for count in counts)):
        _write_images(folder / "images" / name, data, classes, count)
    known, seconds = _fit(folder, "known", 5, seed, ["64"])
    print(f"classes 0 to 4: accuracy {_test(known):.4f} after {seconds:.0f} s", flush=True)
    rows = []
    for count in counts:
        for length in epochs:
            cells = [f"{count:,}", str(length)]
            for options in ([], ["--model.init_from", str(known / "checkpoints" / "last.ckpt"), *_TUNING]):
                run, seconds = _fit(folder, f"new_{count}", length, seed, ["32", *options])
                cells.append(f"{_test(run):.4f} ({seconds:.0f} s)")
            rows.append(cells)
            print(*cells, flush=True)
    text = table(["images of each class", "epochs", "from scratch", "fine-tuned"], rows)
    note = f"Seed {seed}; {time.strftime('%Y-%m-%d')}, {commit()}, {machine()}."
    replace_section("finetune", f"{text}\n\n{note}")


def _write_images(folder: Path, data: str, classes: Sequence[int], count: int) -> None:
    """Write the first images of each class as PNG files into class folders, and all its test images."""
    for split, limit in (("train", count), ("test", 1000)):
        source = CIFAR10(data, train=split == "train", download=True)
        labels = np.array(source.targets)
        for label in classes:
            target = folder / split / source.classes[label]
            if target.is_dir():
                continue
            target.mkdir(parents=True)
            for index in np.flatnonzero(labels == label)[:limit]:
                Image.fromarray(source.data[index]).save(target / f"{index:05}.png")


def _fit(folder: Path, images: str, epochs: int, seed: int, options: Sequence[str]) -> tuple[Path, float]:
    """Train the network of configs/own_images.yaml; return the run's folder, and the seconds of its epochs."""
    name = "_".join([images, str(epochs), "tuned" if len(options) > 1 else "scratch"])
    clock_file = folder / f"{name}.json"
    clock = [{"class_path": "benchmarks.clock.EpochClock", "init_args": {"file": str(clock_file)}}]
    run_python(
        [
            *(str(ROOT / "main.py"), "fit", "--config", str(ROOT / "configs" / "own_images.yaml")),
            *("--data.root", str(folder / "images" / images), "--seed_everything", str(seed), *_COMMON, *options),
            *("--trainer.max_epochs", str(epochs), "--trainer.callbacks+", json.dumps(clock)),
            *("--trainer.logger.save_dir", str(folder), "--trainer.logger.name", name),
        ]
    )
    measured = json.loads(clock_file.read_text())
    newest = max((folder / name).iterdir(), key=lambda run: run.stat().st_mtime)
    return newest, sum(measured["training"])


def _test(run: Path) -> float:
    checkpoint = str(run / "checkpoints" / "last.ckpt")
    printed = run_python([str(ROOT / "main.py"), "test", "--ckpt_path", checkpoint, "--trainer.callbacks", "[]"])
    [accuracy] = re.findall(r"accuracy [^\d\n]*([\d.]+)", printed)
    return float(accuracy)
