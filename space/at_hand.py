"""The images that a run was trained on and is judged by, found again from its configuration."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cifar_lit.arguments import Parser
from cifar_lit.bundle import TrainedClassifier
from cifar_lit.data.batches import LabelledImages
from cifar_lit.data.cache import decoded_folder
from cifar_lit.data.cifar import CIFAR10, CIFAR100
from cifar_lit.data.datamodule import ImageDataModule
from cifar_lit.data.folders import user_cache_dir
from cifar_lit.errors import InputError
from cifar_lit.images import image_files, read_image
from space.judging import Images

_MOST_UNKNOWN = 2000  # images of something else, taken evenly


def images_to_judge(
    config: dict[str, Any], checkpoint: dict[str, Any], trained: TrainedClassifier, images: str | None
) -> tuple[ImageDataModule | None, list[Images]]:
    """The run's data, and what to judge by: validation images, if there are any, then test images, if there are any.

    What lacks is told in one line each.

    Args:
        config: The run's configuration; empty if there is none.
        checkpoint: What it ended with, and which labels it was trained on.
        trained: Its classifier.
        images: A folder of images to judge by, in place of the run's own test images.
    """
    data, sets = None, []
    try:
        found = data_of_run(config)
        if found.class_names != trained.recipe.class_names or found.image_size != trained.recipe.image_size:
            raise InputError("the run's data have other classes or another size now")
        then = checkpoint.get(type(found).__qualname__, {}).get("labels", found.labels_digest)
        if then != found.labels_digest:
            print("The training images are no longer those of the run: its validation images may be among those.")
        elif found.val_set is not None:
            sets.append(Images("val", found.val_set.images, found.val_set.rows))
        if images is None and (test := found.load("test")) is not None:
            sets.append(Images("test", test, torch.arange(len(test))))
        data = found
    except InputError as error:
        if images is None:
            print(f"Without examples, mistakes, confusion matrix and thresholds: {error}. --images DIR names images.")
            return None, []
        print(f"The thresholds are fitted on the images of --images: {error}")
    if images is not None:
        own = own_images(Path(images), trained)
        sets.append(Images("test", own, torch.arange(len(own))))
    return data, sets


def data_of_run(config: dict[str, Any]) -> ImageDataModule:
    """The data module of a run's configuration; raises InputError if it has none."""
    if "data" not in config:
        raise InputError("the checkpoint does not lie in its run's folder, whose config.yaml names the data")
    parser = Parser()
    parser.add_subclass_arguments(ImageDataModule, "data")
    made: ImageDataModule = parser.instantiate_classes(parser.parse_object({"data": config["data"]})).data
    return made


def own_images(folder: Path, trained: TrainedClassifier) -> LabelledImages:
    """The images of a folder of class folders, or of its ``test``, in the size that the classifier takes."""
    if not folder.is_dir():
        raise InputError(f"--images: there is no folder {folder}")
    folder = folder / "test" if (folder / "test").is_dir() else folder
    recipe = trained.recipe
    return decoded_folder(folder, recipe.class_names, user_cache_dir(), size=recipe.image_size).images


def other_cifar(data: ImageDataModule | None) -> dict[str, Tensor]:
    """Test images of CIFAR-100 for data that are CIFAR-10, and the other way round, by the name of the set.

    Empty for other data, and where the other set was not downloaded to the same folder.
    """
    if not isinstance(data, CIFAR10 | CIFAR100):
        return {}
    other = (CIFAR100 if isinstance(data, CIFAR10) else CIFAR10)(root=str(data.root))
    test = other.load("test") if other.is_downloaded else None
    return {other.torchvision_name: test.pixels[:: -(-len(test) // _MOST_UNKNOWN)]} if test else {}


def images_below(folder: Path, trained: TrainedClassifier, most: int = _MOST_UNKNOWN) -> Tensor:
    """The images below a folder, evenly at most so many, uint8 (N, 3, H, W), in the size that the classifier takes.

    Raises:
        InputError: if there is none, or one cannot be read.
    """
    files = sorted(image_files(folder)) if folder.is_dir() else []
    if not files:
        raise InputError(f"there are no images below {folder}")
    files = files[:: -(-len(files) // most)]
    pixels = [torch.from_numpy(read_image(file, trained.recipe.image_size).copy()) for file in files]
    return torch.stack(pixels).permute(0, 3, 1, 2).contiguous()
