"""Classifying image files with a checkpoint: a CSV with the likeliest classes of each."""

import csv
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from cifar_lit.arguments import Parser
from cifar_lit.checkpoints import find_checkpoint, read_classifier
from cifar_lit.errors import InputError
from cifar_lit.images import SUFFIXES, image_files, read_image


def predict_command(args: Sequence[str]) -> None:
    """Runs ``predict`` with the arguments of the command line."""
    parser = Parser(prog="main.py predict", description="Classifies images; writes a CSV.", allow_abbrev=False)
    parser.add_argument("images", nargs="+", help="Image files, or folders of them at any depth.")
    parser.add_function_arguments(predict, skip={"images"}, as_group=False)
    settings = parser.parse_args(list(args))
    predict(**settings.as_dict())


def predict(
    images: list[str],
    ckpt_path: str,
    output: str = "predictions.csv",
    top_k: int = 5,
    batch_size: int = 256,
    skip_unreadable: bool = False,
) -> None:
    """Classifies image files with a checkpoint; writes a CSV: file, then class and probability from the likeliest on.

    Args:
        images: Image files, or folders of them at any depth.
        ckpt_path: The checkpoint: a file, or ``best`` or ``last`` for the newest such file in runs.
        output: The CSV to write.
        top_k: How many classes to write for each image, at most as many as there are.
        batch_size: Images in a batch.
        skip_unreadable: Leave out files that cannot be read as images, and name them, instead of ending.
    """
    if top_k < 1 or batch_size < 1:
        raise InputError(f"top_k and batch_size must be at least 1, got {top_k} and {batch_size}")
    classifier = read_classifier(find_checkpoint(ckpt_path, "runs/*/*").file)
    class_names = classifier.recipe.class_names
    files = _files(images)
    top_k = min(top_k, len(class_names))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    classifier.network.to(device)
    header = ["file", *(f"{column}_{rank}" for rank in range(1, top_k + 1) for column in ("class", "probability"))]
    rows = [header]
    for batch_files, pixels in _batches(files, classifier.recipe.image_size, batch_size, skip_unreadable):
        shares, labels = classifier.probabilities(pixels.to(device)).topk(top_k)
        rows += map(partial(_cells, class_names=class_names), batch_files, labels.tolist(), shares.tolist())
    try:  # only now, so that an older file is not lost to an image that cannot be read
        with open(output, "w", newline="") as file:
            csv.writer(file).writerows(rows)
    except OSError as error:
        raise InputError(f"{output} cannot be written ({error.strerror}); choose another: --output FILE") from error
    print(f"{len(rows) - 1} images classified: {output}")


def _cells(path: Path, labels: list[int], shares: list[float], class_names: list[str]) -> list[str]:
    named = [(class_names[label], f"{share:.6f}") for label, share in zip(labels, shares, strict=True)]
    return [str(path), *(cell for pair in named for cell in pair)]


def _files(images: Sequence[str]) -> list[Path]:
    files: list[Path] = []
    for image in images:
        path = Path(image)
        if path.is_dir():
            found = list(image_files(path))
            if not found:
                raise InputError(f"{path} holds no images ({', '.join(sorted(SUFFIXES))})")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"there is no file or folder {path}")
    return files


def _batches(
    files: list[Path], size: tuple[int, int], batch_size: int, skip_unreadable: bool
) -> Iterator[tuple[list[Path], Tensor]]:
    def read(path: Path) -> Tensor | None:
        try:
            return torch.from_numpy(read_image(path, size).copy()).permute(2, 0, 1)
        except InputError as error:
            if not skip_unreadable:
                raise InputError(f"{error}: remove it, or leave it out: --skip_unreadable true") from error
            print(f"left out: {error}")
            return None

    with ThreadPoolExecutor() as pool:
        for start in track(range(0, len(files), batch_size), "Classifying", transient=True):
            chosen = files[start : start + batch_size]
            read_pixels = list(pool.map(read, chosen))
            pairs = [(path, pixels) for path, pixels in zip(chosen, read_pixels, strict=True) if pixels is not None]
            if pairs:
                yield [path for path, _ in pairs], torch.stack([pixels for _, pixels in pairs])
