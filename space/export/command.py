"""From a checkpoint to a folder that is a complete Hugging Face Space, and runs by itself anywhere else."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from callbacks.grad_cam import first_of_each_class
from callbacks.rendering.feature_maps import feature_maps
from cifar_lit.errors import InputError
from cifar_lit.inference.bundle import TrainedClassifier, write_bundle
from cifar_lit.training.checkpointing.checkpoint_files import CheckpointRun, find_checkpoint
from space.app.bundle_metadata import REPORT_MARKER, BundleMetadata
from space.app.loaded_bundle import EVALUATION, EXAMPLES, METADATA
from space.app.network import METHODS
from space.export.evaluate import Images, with_neighbours
from space.export.external_code import ExternalCode, find_external_code
from space.export.hub import check_push
from space.export.hub import push as push_to_hub
from space.export.model_card import front_matter, model_card
from space.export.ood_samples import ood_samples
from space.export.run_data import RunData
from space.export.run_metadata import digest_of, recipe_text, run_metadata

ROOT = Path(__file__).parents[2]
# The code that a Space gets: folders, and the files of the packages above them
SHIPPED = (
    "callbacks/__init__.py",
    "callbacks/rendering",
    "cifar_lit/__init__.py",
    "cifar_lit/errors.py",
    "cifar_lit/evaluation",
    "cifar_lit/inference",
    "cifar_lit/models",
    "space/__init__.py",
    "space/app",
)
# What that code needs; torch and torchvision in whatever version the Space's hardware comes with
PINNED = (
    "gradio",
    "matplotlib",
    "numpy",
    "pandas",
    "pillow",
    "safetensors",
    "scipy",
    "starlette",
    "torchmetrics",
)
_APP = '''"""Opens the page of a trained image classifier."""

import gc

gc.disable()  # until the page is built: a start is a second faster so

from pathlib import Path

from space.app.page import serve

NETWORKS = {networks}  # from outside this project, that the recipe may name

if __name__ == "__main__":
    serve(Path(__file__).parent, NETWORKS)
'''


def demo(ckpt_path: str = "best", output: str | None = None, images: str | None = None) -> None:
    """Writes a Space and opens it.

    Args:
        ckpt_path: The checkpoint: a file, or ``best`` or ``last`` for the newest such file in runs.
        output: The folder to write; by default ``space`` in the run's folder (for a checkpoint by itself, here).
        images: Images to judge by, in ``DIR/<class>/`` or ``DIR/test/<class>/``; by default the run's own data.
    """
    run = find_checkpoint(ckpt_path, "runs/*/*")
    folder = Path(output) if output else run.folder / "space" if run.in_run_folder else Path(f"{run.file.stem}_space")
    export(str(run.file), str(folder), images)
    with suppress(KeyboardInterrupt):  # which ends the page, and is no error
        ended = subprocess.run([sys.executable, "app.py"], cwd=folder, check=False)
        if ended.returncode:
            raise InputError(f"the page in {folder} ended with an error, told above")


def export(
    ckpt_path: str,
    output: str,
    images: str | None = None,
    title: str | None = None,
    mistakes: int = 1000,
    neighbors: int = 10_000,
    push: str | None = None,
    dry_run: bool = True,
) -> None:
    """Writes a page that shows a trained classifier: a folder that runs by itself, and is a Hugging Face Space.

    Args:
        ckpt_path: The checkpoint: a file, or ``best`` or ``last`` for the newest such file in runs.
        output: The folder to write. One that an earlier export wrote is renewed.
        images: Images to judge by, in ``DIR/<class>/`` or ``DIR/test/<class>/``; by default the run's own data.
        title: Of the page; by default the names of network and data.
        mistakes: How many misclassified images to put in, at most; the most confident ones.
        neighbors: Among how many training images to seek those that the network finds most like its mistakes; 0 shows
            none.
        push: Upload it to this Space, ``user/name``.
        dry_run: With ``push``, write the folder and only list what would be sent.
    """
    if mistakes < 0 or neighbors < 0:
        raise InputError(f"mistakes and neighbors must be at least 0, got {mistakes} and {neighbors}")
    if push is not None:
        check_push(push, dry_run)
    folder = Path(output)
    _check_folder(folder)
    evidence = RunData.gather(ckpt_path, images)
    run, sets = evidence.run, evidence.sets
    outside = find_external_code(evidence.trained.recipe.net)
    _tell_what_lacks(evidence)
    trained, judged, unknown = evidence.trained, evidence.judged(mistakes), None
    if judged is not None:
        unknown, _ = evidence.unknown(ood_samples(256, trained.recipe.image_size, trained.recipe.class_names))
        if evidence.data is not None and neighbors:
            judged = with_neighbours(trained, judged, evidence.data.train_set, neighbors)
    with _appearing_whole(folder) as unfinished:
        _write_code(unfinished, outside)
        bundle = unfinished / "bundle"
        write_bundle(bundle, trained.recipe, trained.network.state_dict())
        facts = BundleMetadata(
            title=title or evidence.title,
            run=run_metadata(evidence),
            history=evidence.history,
            unknown=unknown,
            examples=_write_examples(bundle / EXAMPLES, trained, sets[-1]) if sets else [],
        )
        (bundle / METADATA).write_text(json.dumps(facts.to_json(), indent=1, ensure_ascii=False), encoding="utf-8")
        if judged is not None:
            judged.save(bundle / EVALUATION)
        card = front_matter(facts.title) + model_card(trained, facts, judged, recipe_text(evidence))
        (unfinished / "README.md").write_text(card + _copied_report(unfinished, run), encoding="utf-8")
        files = sorted(str(path.relative_to(unfinished)) for path in unfinished.rglob("*") if path.is_file())
    if judged is not None and len(judged.training_pixels):
        print(
            f"With {len(judged.training_pixels)} training images, to be shown beside the mistakes that are like them"
            " (--neighbors 0: with none)"
        )
    size = sum((folder / file).stat().st_size for file in files) / 1e6
    print(
        f"Written to {folder}: {len(files)} files, {size:.1f} MB. Open it: {_python()} {folder / 'app.py'} (then"
        " http://127.0.0.1:7860 in a browser)"
    )
    if push is not None:
        print(push_to_hub(folder, files, push, dry_run))


def _tell_what_lacks(evidence: RunData) -> None:
    note = evidence.at_hand.note
    if not evidence.sets:
        print(f"Without examples, mistakes, confusion matrix and thresholds: {note}. --images DIR names images.")
    elif note:
        print(f"Without validation images, by which the thresholds would be chosen: {note}.")


def _copied_report(folder: Path, run: CheckpointRun) -> str:
    """What ``report`` wrote of the run, for the end of the README, its pictures copied to the folder; empty if it was
    not asked for one, or if that is of another checkpoint."""
    source = run.folder / "report"
    if not run.in_run_folder or not (source / "report.md").is_file():
        return ""
    text = (source / "report.md").read_text(encoding="utf-8")
    if digest_of(run.file) not in text.partition("\n---\n")[0]:
        print(f"{source} tells of another checkpoint, and is left out: `report --ckpt_path {run.file}` renews it")
        return ""
    pictures = folder / "report_files"
    pictures.mkdir()
    for file in (source / "report_files").glob("*"):
        if file.suffix in (".png", ".csv", ".yaml"):
            shutil.copy2(file, pictures)
    _, _, body = text.removeprefix("---\n").partition("\n---\n")
    return f"\n{REPORT_MARKER}\n\n{body}"


def _python() -> str:
    """What the user types to start Python; `uv run` sets UV."""
    return "uv run python" if "UV" in os.environ else "python"


@contextmanager
def _appearing_whole(folder: Path) -> Iterator[Path]:
    """A folder to write to, whose content then takes the place of an earlier export's; after an error nothing does."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise InputError(f"--output {folder} cannot be written ({error.strerror}); choose another folder") from error
    try:
        yield unfinished
        folder.mkdir(exist_ok=True)
        for part in unfinished.iterdir():
            if (folder / part.name).is_dir():
                shutil.rmtree(folder / part.name)
            part.replace(folder / part.name)
    except OSError as error:
        raise InputError(f"--output {folder} could not be written ({error})") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _check_folder(folder: Path) -> None:
    if folder.is_file():
        raise InputError(f"--output {folder} is a file; name a folder")
    holds = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if (
        holds - ({".gitattributes", "README.md"} if ".git" in holds else set()) - {".git"}
        and not (folder / "bundle" / METADATA).is_file()
    ):
        raise InputError(f"--output {folder} is not empty, and no exported Space; choose a new folder")


def _write_code(folder: Path, outside: ExternalCode) -> None:
    for path in map(Path, SHIPPED):
        if (ROOT / path).is_dir():
            shutil.copytree(ROOT / path, folder / path, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, folder / path)
    for file in outside.files:
        shutil.copyfile(file, folder / file.name)
    (folder / "app.py").write_text(_APP.format(networks=tuple(outside.networks)), encoding="utf-8")
    pins = [f"{name}=={version(name)}" for name in PINNED]
    lines = ["torch>=2.8,<3  # the version that the Space's hardware comes with", *pins, *outside.requirements]
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_examples(folder: Path, trained: TrainedClassifier, judged_on: Images) -> list[dict[str, Any]]:
    """Writes an image of each class in turn, ten in all; gives their files and controls."""
    folder.mkdir()
    pixels = torch.zeros(1, 3, *trained.recipe.image_size, dtype=torch.uint8)
    layers = list(feature_maps(trained.network.net, trained.network.preprocess(pixels)))[:-4:-1] or [""]
    methods, most = list(METHODS.values()), min(10, len(trained.recipe.class_names))
    examples = []
    for number, place in enumerate(first_of_each_class(judged_on.labels, 10).tolist()):
        image = judged_on.images.pixels[judged_on.rows[place]].permute(1, 2, 0).numpy()
        file = f"example_{number}.png"
        Image.fromarray(image).save(folder / file)
        examples.append(
            {
                "file": file,
                "classes": min(most, 3 + number % 3),
                "fit": "crop",
                "layer": layers[number % len(layers)],
                "method": methods[number % len(methods)],
                "opacity": (0.5, 0.4, 0.6)[number % 3],
            }
        )
    return examples
