"""The images that a run was trained on and is judged by, found again from its configuration."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cifar_lit.cli.parser import Parser
from cifar_lit.data.batches import ImageTensors
from cifar_lit.data.cache import decoded_folder
from cifar_lit.data.cifar import CIFAR10, CIFAR100
from cifar_lit.data.datamodule import ImageDataModule
from cifar_lit.data.folders import user_cache_dir
from cifar_lit.errors import InputError
from cifar_lit.inference.bundle import Recipe
from cifar_lit.inference.images import image_files, read_image
from space.export.evaluate import Images

_MOST_UNKNOWN = 2000  # images of something else, taken evenly


class RunImages(NamedTuple):
    """What there is of a run's images.

    data: The run's data; None where they are not at hand, or are others now.
    sets: What to judge by: validation images, if there are any, then test images, if there are any.
    note: What lacks, and why; empty if nothing does.
    """

    data: ImageDataModule | None
    sets: list[Images]
    note: str


def find_run_images(
    config: dict[str, Any], checkpoint: dict[str, Any], recipe: Recipe, images: str | None
) -> RunImages:
    """Finds a run's images again.

    Args:
        config: The run's configuration; empty if there is none.
        checkpoint: What it ended with, and which images it was trained on.
        recipe: Of its classifier.
        images: A folder of images to judge by, in place of the run's own test images.

    Raises:
        InputError: if that folder cannot be used.
    """
    data, sets, note = None, [], ""
    try:
        found = data_of_run(config)
        if found.class_names != recipe.class_names or found.image_size != recipe.image_size:
            raise InputError("the run's data have other classes or another size now")
        if checkpoint.get(type(found).__qualname__, {}).get("digest") in (None, found.training_digest):
            data = found
            if data.val_set is not None:
                sets.append(Images("val", data.val_set.images, data.val_set.rows))
        else:
            note = "the training images are no longer those of the run: its validation images may be among them now"
        if images is None and (test := found.load("test")) is not None:
            sets.append(Images("test", test, torch.arange(len(test))))
    except InputError as error:
        note = str(error)
    if images is not None:
        own = own_images(Path(images), recipe)
        sets.append(Images("test", own, torch.arange(len(own))))
    return RunImages(data, sets, note)


def data_of_run(config: dict[str, Any]) -> ImageDataModule:
    """The data module of a run's configuration; raises InputError if it has none."""
    if "data" not in config:
        raise InputError("the checkpoint does not lie in its run's folder, whose config.yaml names the data")
    parser = Parser()
    parser.add_subclass_arguments(ImageDataModule, "data")
    made: ImageDataModule = parser.instantiate_classes(parser.parse_object({"data": config["data"]})).data
    return made


def own_images(folder: Path, recipe: Recipe) -> ImageTensors:
    """The images of a folder of class folders, or of its ``test``, in the size that the classifier takes."""
    if not folder.is_dir():
        raise InputError(f"--images: there is no folder {folder}")
    folder = folder / "test" if (folder / "test").is_dir() else folder
    return decoded_folder(folder, recipe.class_names, user_cache_dir(), size=recipe.image_size).images


def other_cifar(data: ImageDataModule | None) -> dict[str, Tensor]:
    """Test images of CIFAR-100 for data that are CIFAR-10, and the other way round, by the name of the set.

    Empty for other data, and where the other set is not whole in the same folder.
    """
    if not isinstance(data, CIFAR10 | CIFAR100):
        return {}
    other = (CIFAR100 if isinstance(data, CIFAR10) else CIFAR10)(root=str(data.root))
    if not other.is_downloaded:
        return {}
    test = other.load("test")
    assert test is not None
    return {other.torchvision_name: test.pixels[:: -(-len(test) // _MOST_UNKNOWN)]}


def images_below(folder: Path, recipe: Recipe, most: int = _MOST_UNKNOWN) -> Tensor:
    """The images below a folder, evenly at most so many, uint8 (N, 3, H, W), in the size that the classifier takes.

    Raises:
        InputError: if there is none, or one cannot be read.
    """
    files = sorted(image_files(folder)) if folder.is_dir() else []
    if not files:
        raise InputError(f"there are no images below {folder}")
    files = files[:: -(-len(files) // most)]
    pixels = [torch.from_numpy(read_image(file, recipe.image_size).copy()) for file in files]
    return torch.stack(pixels).permute(0, 3, 1, 2).contiguous()
