"""The ``predict`` command."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from cifar_lit.cli.summary import print_predictions
from cifar_lit.csv_text import csv_text
from cifar_lit.errors import InputError
from cifar_lit.inference.images import describe_left_out, image_files
from cifar_lit.inference.predict import Prediction, predict_files
from cifar_lit.progress import with_progress
from cifar_lit.safe_files import write_atomically
from cifar_lit.training.checkpointing.checkpoint_files import find_checkpoint, read_classifier


def predict(
    images: list[str],
    ckpt_path: str = "best",
    output: str = "predictions.csv",
    top_k: int = 5,
    batch_size: int = 256,
    skip_unreadable: bool = False,
) -> None:
    """Classify image files and write each file's most likely classes and probabilities to a CSV file.

    The last column flags images that may be none of the classes: the network's evidence for them, by default the energy
    score, is weaker than in 95% of the validation images. It flags 5% of such images by mistake.

    Args:
        images: Image files, or folders that contain them at any depth.
        ckpt_path: Checkpoint file, or ``best`` or ``last`` for the newest such file in runs.
        output: CSV file to write.
        top_k: Number of most likely classes per image; at most all.
        batch_size: Number of images per batch.
        skip_unreadable: Skip and list files that cannot be read as images, instead of stopping.
    """
    if top_k < 1 or batch_size < 1:
        raise InputError(f"top_k and batch_size must be at least 1, got {top_k} and {batch_size}")

    def on_unreadable(error: InputError) -> None:
        if not skip_unreadable:
            raise InputError(f"{error}; remove it, or skip it with --skip_unreadable true") from error
        print(f"skipped: {error}")

    classifier = read_classifier(find_checkpoint(ckpt_path, "runs/*/*").file)
    classifier.network.to("cuda" if torch.cuda.is_available() else "cpu")
    top_k = min(top_k, len(classifier.recipe.class_names))
    files, notes = _find_files(images)
    batches = predict_files(classifier, files, top_k, batch_size, on_unreadable)
    number_of_batches = -(-len(files) // batch_size)
    predictions = [
        prediction for batch in with_progress(batches, "Classifying", number_of_batches) for prediction in batch
    ]
    header = ["file", *(f"{column}_{rank}" for rank in range(1, top_k + 1) for column in ("class", "probability"))]
    header.append("possibly_none_of_the_classes")
    try:  # only now, so that an unreadable image does not overwrite an earlier file
        _write(Path(output), csv_text([header, *(_cells(prediction) for prediction in predictions)]))
    except OSError as error:
        raise InputError(f"{output} cannot be written ({error.strerror}); choose another: --output FILE") from error
    print_predictions([(str(one.file), one.classes[:3], one.is_ood) for one in predictions])
    print(f"{len(predictions)} image{'s' * (len(predictions) != 1)} classified: {output}")
    if unknown := sum(bool(one.is_ood) for one in predictions):
        print(f"{unknown} may be none of the classes (column possibly_none_of_the_classes)")
    for note in notes:
        print(note)


def _write(output: Path, table: str) -> None:
    content = table.encode("utf-8", "surrogateescape")  # names that are not UTF-8 keep their bytes
    if output.is_symlink() or (output.exists() and not output.is_file()):  # such as /dev/stdout
        output.write_bytes(content)
    else:
        write_atomically(output, content)


def _cells(prediction: Prediction) -> list[str]:
    verdict = "" if prediction.is_ood is None else str(prediction.is_ood)
    cells = (cell for name, prob in prediction.classes for cell in (name, f"{prob:.6f}"))
    return [str(prediction.file), *cells, verdict]


def _find_files(images: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return the image files, and a sentence on what was left out of each folder, if anything was."""
    files: list[Path] = []
    notes: list[str] = []
    for path in map(Path, images):
        if path.is_dir():
            left_out = Counter[str]()
            found = sorted(image_files(path, left_out))
            note = describe_left_out(path, left_out)
            if not found:
                raise InputError(f"{path} contains no images" + (f" ({note})" if note else ""))
            files += found
            if note:
                notes.append(note)
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"no such file or folder: {path}")
    return list(dict.fromkeys(files)), notes
