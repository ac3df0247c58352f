"""Write a Space's folder: the code, the bundle, the examples and the README."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from callbacks.grad_cam import first_of_each_class
from callbacks.rendering.activations import feature_maps, last_of_each_size
from callbacks.rendering.class_activation_maps import Method, fast_methods
from cifar_lit.errors import InputError
from cifar_lit.inference.bundle import TrainedClassifier, write_bundle
from space.app.bundle_metadata import EVALUATION, EXAMPLES, METADATA, REPORT_FILES, REPORT_MARKER, BundleMetadata
from space.export.evaluate import EvaluationSplit, default_heatmap, with_neighbors
from space.export.external_code import ExternalCode, find_external_code, local_files
from space.export.model_card import front_matter, model_card
from space.export.ood_samples import ood_samples
from space.export.run_data import RunData
from space.export.run_metadata import recipe_text, run_metadata

ROOT = Path(__file__).parents[2]
# The code that a Space contains: folders, and the modules of their parent packages
SHIPPED = (
    "callbacks/__init__.py",
    "callbacks/rendering",
    "cifar_lit/__init__.py",
    "cifar_lit/csv_text.py",
    "cifar_lit/errors.py",
    "cifar_lit/evaluation",
    "cifar_lit/inference",
    "cifar_lit/models",
    "cifar_lit/randomness.py",
    "space/__init__.py",
    "space/app",
)
# Requirements of that code; torch and torchvision are not pinned, since the Space's hardware determines them
PINNED = ("gradio", "matplotlib", "numpy", "pandas", "pillow", "safetensors", "scipy", "starlette", "torchmetrics")
_APP = '''"""Open the web page of a trained image classifier."""

import gc

gc.disable()  # until the page is built: starts a second faster

import sys
from pathlib import Path

from cifar_lit.errors import InputError
from space.app.page import serve

NETWORKS = {networks}  # external networks that the recipe may name

if __name__ == "__main__":
    try:
        serve(Path(__file__).parent, NETWORKS, inbrowser="--browser" in sys.argv)
    except InputError as error:
        print("error:", *str(error).split(), file=sys.stderr)
        sys.exit(2)
'''


def write_space(
    ckpt_path: str,
    folder: Path,
    images: str | None = None,
    title: str | None = None,
    mistakes: int = 1000,
    neighbors: int = 10_000,
    layer: str | None = None,
    method: Method | None = None,
    flag_unknown: bool | None = None,
) -> list[str]:
    """Write a Space; see ``export`` for the arguments.

    Returns:
        The files, relative to the folder.
    """
    _check_folder(folder)
    run = RunData.load(ckpt_path, images)
    external = find_external_code(run.classifier.recipe.net)
    for file in local_files(run.classifier.recipe.net):
        print(f"warning: the network needs the file {file}, which is not part of the Space")
    note = run.note
    if not run.splits:
        print(f"Without examples, mistakes, confusion matrix and thresholds: {note}. Add images with --images DIR.")
    elif note:
        print(f"Without validation images to choose the thresholds on: {note}.")
    classifier, threshold = run.classifier, None
    heatmap = default_heatmap(classifier, run.splits[0] if run.splits else None, layer, method)
    result = run.evaluate(mistakes) if run.splits else None
    if result is not None:
        samples = ood_samples(256, classifier.recipe.image_size, classifier.recipe.class_names)
        unknown = {kind: (classifier.logits(pixels).cpu(), pixels) for kind, pixels in samples.items()}
        threshold = replace(run.fit_ood_threshold(unknown), flag_images=flag_unknown)
        if run.data is not None and neighbors:
            result = with_neighbors(classifier, result, run.data.train_set, neighbors)
    with _replacing(folder) as unfinished:
        _write_code(unfinished, external)
        bundle = unfinished / "bundle"
        write_bundle(bundle, classifier.recipe, classifier.network.state_dict(), classifier.training_features)
        metadata = BundleMetadata(
            title=title or run.title,
            run=run_metadata(run),
            history=run.history,
            unknown=threshold,
            examples=_write_examples(bundle / EXAMPLES, classifier, run.eval_split, *heatmap) if run.splits else [],
            layer=heatmap[0],
            method=heatmap[1],
        )
        (bundle / METADATA).write_text(json.dumps(asdict(metadata), indent=1, ensure_ascii=False), encoding="utf-8")
        if result is not None:
            result.save(bundle / EVALUATION)
        report = _copy_report(unfinished, run)
        card = model_card(classifier, metadata, result, recipe_text(run), bool(report))
        (unfinished / "README.md").write_text(front_matter(metadata.title) + card + report, encoding="utf-8")
        files = sorted(str(path.relative_to(unfinished)) for path in unfinished.rglob("*") if path.is_file())
    if result is not None and len(result.training_pixels):
        count = len(result.training_pixels)
        print(f"Includes {count} training images, those most similar to mistakes (--neighbors 0 leaves them out)")
    if classifier.training_features is not None:
        print(f"Includes the features of {len(classifier.training_features):,} training images, for the k-NN score")
    size = sum((folder / file).stat().st_size for file in files) / 1e6
    print(f"Written to {folder}: {len(files)} files, {size:.1f} MB")
    return files


def _copy_report(folder: Path, run: RunData) -> str:
    """Copy the pictures of the run's report to a folder, and return its text for the README.

    Empty if there is no report, or it is about another checkpoint.
    """
    source = run.checkpoint_run.folder / "report"
    if not run.checkpoint_run.in_run_folder or not (source / "report.md").is_file():
        return ""
    text = (source / "report.md").read_text(encoding="utf-8")
    if run.digest not in text.partition("\n---\n")[0]:
        file = run.checkpoint_run.file
        print(f"{source} describes another checkpoint; skipped (`report --ckpt_path {file}` rewrites it)")
        return ""
    pictures = folder / REPORT_FILES
    pictures.mkdir()
    for file in (source / REPORT_FILES).glob("*"):
        if file.suffix in (".png", ".csv", ".yaml"):
            shutil.copy2(file, pictures)
    _, _, body = text.removeprefix("---\n").partition("\n---\n")
    return f"\n{REPORT_MARKER}\n\n{body}"


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder whose content replaces an earlier export's; after an error nothing changes."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise InputError(f"--output {folder} cannot be written ({error.strerror}); choose another folder") from error
    try:
        yield unfinished
        folder.mkdir(exist_ok=True)
        for path in unfinished.iterdir():
            if (folder / path.name).is_dir():
                shutil.rmtree(folder / path.name)
            path.replace(folder / path.name)
    except OSError as error:
        raise InputError(f"--output {folder} could not be written ({error})") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _check_folder(folder: Path) -> None:
    if folder.is_file():
        raise InputError(f"--output {folder} is a file; name a folder")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if ".git" in names:  # a clone of a new Space
        names -= {".git", ".gitattributes", "README.md"}
    if names and not (folder / "bundle" / METADATA).is_file():
        raise InputError(f"--output {folder} is not empty and not an exported Space; choose a new folder")


def _write_code(folder: Path, external: ExternalCode) -> None:
    for path in map(Path, SHIPPED):
        if (ROOT / path).is_dir():
            shutil.copytree(ROOT / path, folder / path, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, folder / path)
    for file in external.files:
        shutil.copyfile(file, folder / file.name)
    (folder / "app.py").write_text(_APP.format(networks=tuple(external.networks)), encoding="utf-8")
    pins = [f"{name}=={version(name)}" for name in PINNED]
    lines = ["torch>=2.8,<3  # the Space's hardware determines the version", *pins, *external.requirements]
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_examples(
    folder: Path, classifier: TrainedClassifier, split: EvaluationSplit, layer: str, method: Method
) -> list[dict[str, Any]]:
    """Write ten images, of different classes as far as possible, and return their files and control settings.

    The first has the default layer and method.
    """
    folder.mkdir()
    pixels = torch.zeros(1, 3, *classifier.recipe.image_size, dtype=torch.uint8)
    net, inputs = classifier.network.net, classifier.network.preprocess(pixels)
    layers = list(dict.fromkeys([layer, *last_of_each_size(feature_maps(net, inputs))]))
    methods = list(dict.fromkeys([method, *fast_methods(net, inputs)]))
    max_classes = min(10, len(classifier.recipe.class_names))
    examples = []
    for number, index in enumerate(first_of_each_class(split.labels, 10).tolist()):
        file = f"example_{number}.png"
        Image.fromarray(split.images.pixels[split.rows[index]].permute(1, 2, 0).numpy()).save(folder / file)
        examples.append(
            {
                "file": file,
                "classes": min(max_classes, 3 + number % 3),
                "layer": layers[number % len(layers)],
                "method": methods[number % len(methods)],
                "opacity": (0.5, 0.4, 0.6)[number % 3],
            }
        )
    return examples
