"""From a checkpoint to a folder that is a complete Hugging Face Space, and runs by itself anywhere else."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image

from callbacks.grad_cam import first_of_each_class
from callbacks.rendering.feature_maps import feature_maps
from cifar_lit.arguments import Parser
from cifar_lit.bundle import TrainedClassifier, write_bundle
from cifar_lit.checkpoints import find_checkpoint, read_checkpoint, read_classifier
from cifar_lit.data.batches import LabelledImages
from cifar_lit.data.cache import decoded_folder
from cifar_lit.data.datamodule import ImageDataModule
from cifar_lit.data.folders import user_cache_dir
from cifar_lit.errors import InputError
from cifar_lit.history import read_history
from cifar_lit.judged import Facts
from space.card import front_matter, model_card
from space.facts import recipe_text, run_facts, title_of
from space.hub import check_push
from space.hub import push as push_to_hub
from space.judging import Images, judge
from space.network import METHODS
from space.outside import OutsideCode, find_outside_code
from space.shown import EXAMPLES, FACTS, JUDGED

ROOT = Path(__file__).parents[1]
# All the code that a Space gets
SHIPPED = (
    "callbacks/__init__.py",
    "callbacks/rendering/*.py",
    "cifar_lit/__init__.py",
    "cifar_lit/bundle.py",
    "cifar_lit/errors.py",
    "cifar_lit/images.py",
    "cifar_lit/judged.py",
    "cifar_lit/models/*.py",
    "space/__init__.py",
    "space/answer.py",
    "space/api.py",
    "space/app.py",
    "space/controls.py",
    "space/decoder.py",
    "space/gate.py",
    "space/markdown.py",
    "space/network.py",
    "space/pictures.py",
    "space/shown.py",
    "space/style.py",
    "space/table.py",
    "space/tabs/*.py",
)
# What that code needs; torch and torchvision in whatever version the Space's hardware comes with
PINNED = ("gradio", "matplotlib", "numpy", "pandas", "pillow", "safetensors", "starlette")
_APP = '''"""Opens the page of a trained image classifier."""

import gc

gc.disable()  # until the page is built: a start is a second faster so

from pathlib import Path

from space.app import serve

NETWORKS = {networks}  # from outside this project, that the recipe may name

if __name__ == "__main__":
    serve(Path(__file__).parent, NETWORKS)
'''


def export_command(args: Sequence[str]) -> None:
    """Runs ``export`` with the arguments of the command line."""
    parser = Parser(
        prog="main.py export",
        description="Writes a page that shows a trained classifier: it runs anywhere, and is a Hugging Face Space.",
        allow_abbrev=False,
    )
    parser.add_function_arguments(export, as_group=False)
    export(**parser.parse_args(list(args)).as_dict())


def demo_command(args: Sequence[str]) -> None:
    """Runs ``demo`` with the arguments of the command line."""
    parser = Parser(prog="main.py demo", description="Exports a Space and opens it.", allow_abbrev=False)
    parser.add_function_arguments(demo, as_group=False)
    demo(**parser.parse_args(list(args)).as_dict())


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
        push: Upload it to this Space, ``user/name``.
        dry_run: With ``push``, write the folder and only list what would be sent.
    """
    if mistakes < 0:
        raise InputError(f"mistakes must be at least 0, got {mistakes}")
    if push is not None:
        check_push(push, dry_run)
    run, folder = find_checkpoint(ckpt_path, "runs/*/*"), Path(output)
    _check_folder(folder)
    checkpoint = read_checkpoint(run.file)
    trained = read_classifier(run.file)
    outside = find_outside_code(trained.recipe.net)
    config = yaml.safe_load(run.config.read_text()) if run.in_run_folder else {}
    data, sets = _images(config, trained, images)
    trained, judged, unknown = judge(trained, sets, mistakes)
    with _appearing_whole(folder) as unfinished:
        _write_code(unfinished, outside)
        bundle = unfinished / "bundle"
        write_bundle(bundle, trained.recipe, trained.network.state_dict())
        facts = Facts(
            title=title or title_of(trained, config, data),
            run=run_facts(trained, run, checkpoint, config, sets),
            history=read_history(run.folder) if run.in_run_folder else {},
            unknown=unknown,
            examples=_write_examples(bundle / EXAMPLES, trained, sets[-1]) if sets else [],
        )
        (bundle / FACTS).write_text(json.dumps(facts.to_json(), indent=1, ensure_ascii=False), encoding="utf-8")
        if judged is not None:
            judged.save(bundle / JUDGED)
        card = front_matter(facts.title) + model_card(trained, facts, judged, recipe_text(config, checkpoint))
        (unfinished / "README.md").write_text(card, encoding="utf-8")
        files = sorted(str(path.relative_to(unfinished)) for path in unfinished.rglob("*") if path.is_file())
    size = sum((folder / file).stat().st_size for file in files) / 1e6
    print(
        f"Written to {folder}: {len(files)} files, {size:.1f} MB. Open it: {_python()} {folder / 'app.py'} (then"
        " http://127.0.0.1:7860 in a browser)"
    )
    if push is not None:
        print(push_to_hub(folder, files, push, dry_run))


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
        and not (folder / "bundle" / FACTS).is_file()
    ):
        raise InputError(f"--output {folder} is not empty, and no exported Space; choose a new folder")


def _images(
    config: dict[str, Any], trained: TrainedClassifier, images: str | None
) -> tuple[ImageDataModule | None, list[Images]]:
    """The run's data, and what to judge by: validation images, if there are any, then test images, if there are any.

    What lacks is told in one line each.
    """
    data, sets = None, []
    try:
        data = _data_of_run(config)
        if data.class_names != trained.recipe.class_names or data.image_size != trained.recipe.image_size:
            raise InputError("the run's data have other classes or another size now")
        if data.val_set is not None:
            sets.append(Images("val", data.val_set.images, data.val_set.rows))
        if images is None and (test := data.load("test")) is not None:
            sets.append(Images("test", test, torch.arange(len(test))))
    except InputError as error:
        if images is None:
            print(f"Without examples, mistakes, confusion matrix and thresholds: {error}. --images DIR names images.")
            return data, []
        print(f"The thresholds are fitted on the images of --images: {error}")
    if images is not None:
        own = _own_images(Path(images), trained)
        sets.append(Images("test", own, torch.arange(len(own))))
    return data, sets


def _data_of_run(config: dict[str, Any]) -> ImageDataModule:
    if "data" not in config:
        raise InputError("the checkpoint does not lie in its run's folder, whose config.yaml names the data")
    parser = Parser()
    parser.add_subclass_arguments(ImageDataModule, "data")
    made: ImageDataModule = parser.instantiate_classes(parser.parse_object({"data": config["data"]})).data
    return made


def _own_images(folder: Path, trained: TrainedClassifier) -> LabelledImages:
    if not folder.is_dir():
        raise InputError(f"--images: there is no folder {folder}")
    folder = folder / "test" if (folder / "test").is_dir() else folder
    recipe = trained.recipe
    return decoded_folder(folder, recipe.class_names, user_cache_dir(), size=recipe.image_size).images


def _write_code(folder: Path, outside: OutsideCode) -> None:
    for pattern in SHIPPED:
        for file in sorted(ROOT.glob(pattern)):
            target = folder / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
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
    layers = list(feature_maps(trained.network.net, trained.network.inputs_of(pixels)))[:-4:-1] or [""]
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
