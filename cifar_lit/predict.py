"""Classifying image files with a checkpoint: a CSV with the likeliest classes of each."""

import csv
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn

from cifar_lit.arguments import Parser
from cifar_lit.checkpoints import describe, find_checkpoint, read_checkpoint
from cifar_lit.errors import InputError
from cifar_lit.images import SUFFIXES, image_files, read_image
from cifar_lit.models import PixelNormalization
from cifar_lit.models.recipe import build_network


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
    classifier, class_names, image_size = load_classifier(find_checkpoint(ckpt_path, "runs/*/*").file)
    files = _files(images)
    top_k = min(top_k, len(class_names))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    classifier.to(device)
    header = ["file", *(f"{column}_{rank}" for rank in range(1, top_k + 1) for column in ("class", "probability"))]
    rows = [header]
    for batch_files, pixels in _batches(files, image_size, batch_size, skip_unreadable):
        shares, labels = probabilities_of(classifier, pixels.to(device)).topk(top_k)
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


@torch.inference_mode()
def probabilities_of(classifier: nn.Module, pixels: Tensor) -> Tensor:
    """Class probabilities float32 (N, classes), each row summing to 1, of pixels uint8 (N, 3, H, W)."""
    return classifier(pixels).float().softmax(1)


def load_classifier(file: Path) -> tuple[nn.Module, list[str], tuple[int, int]]:
    """The trained classifier of a checkpoint, without its training.

    Args:
        file: The checkpoint.

    Returns:
        The classifier in evaluation mode (uint8 pixels (N, 3, H, W) in, logits (N, classes) out), the names of its
        classes, and the height and width of the images that it was trained on.

    Raises:
        InputError: if the file is not a checkpoint of this program, or its network cannot be built.
    """
    checkpoint = read_checkpoint(file)
    settings: dict[str, Any] = checkpoint.get("hyper_parameters", {})
    try:
        classifier = EvaluatedClassifier(
            PixelNormalization(settings["mean"], settings["std"]), build_network(settings["net"]), settings["flip_tta"]
        )
        classifier.load_state_dict(checkpoint["state_dict"])
        height, width = settings["image_size"]
        return classifier.eval(), list(settings["class_names"]), (height, width)
    except (ImportError, AttributeError, TypeError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{file}: its network {describe(settings.get('net'))} cannot be built ({reason})") from error


class EvaluatedClassifier(nn.Module):
    """A trained classifier as it is judged: pixels in, logits out, averaged with the mirror image's if so trained.

    Args:
        normalize: Scales and normalises the pixels.
        net: The network.
        flip_tta: Whether to average over the image and its mirror image.
    """

    def __init__(self, normalize: PixelNormalization, net: nn.Module, flip_tta: bool) -> None:
        super().__init__()
        self.normalize, self.net, self.flip_tta = normalize, net, flip_tta

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits float32 (N, classes) of pixels uint8 (N, 3, H, W)."""
        logits: Tensor = self.net(self.normalize(pixels)).float()
        if self.flip_tta:
            logits = (logits + self.net(self.normalize(pixels.flip(-1))).float()) / 2
        return logits


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
                raise
            print(f"left out: {error}")
            return None

    with ThreadPoolExecutor() as pool:
        for start in track(range(0, len(files), batch_size), "Classifying", transient=True):
            chosen = files[start : start + batch_size]
            read_pixels = list(pool.map(read, chosen))
            pairs = [(path, pixels) for path, pixels in zip(chosen, read_pixels, strict=True) if pixels is not None]
            if pairs:
                yield [path for path, _ in pairs], torch.stack([pixels for _, pixels in pairs])
