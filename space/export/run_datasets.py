"""Find the images that a run was trained and is evaluated on, from its configuration."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cifar_lit.cli.jsonargparse_compat import Parser
from cifar_lit.data.batches import ImageDataset, ImageTensors
from cifar_lit.data.cifar import CIFAR10, CIFAR100
from cifar_lit.data.datamodule import ImageDataModule, Split
from cifar_lit.data.folder_cache import decode_folder
from cifar_lit.data.folders import user_cache_dir
from cifar_lit.errors import InputError
from cifar_lit.inference.bundle import Recipe
from cifar_lit.inference.images import Resizing, image_files, read_image
from space.export.evaluate import EvaluationSplit

_MAX_OOD_IMAGES = 2000  # evenly spaced


def find_run_datasets(
    config: dict[str, Any], checkpoint: dict[str, Any], recipe: Recipe, images: str | None
) -> tuple[ImageDataModule | None, list[EvaluationSplit], str]:
    """Find the images of a run.

    Args:
        config: The run's configuration; empty if there is none.
        checkpoint: The content of its checkpoint, with a digest of its training images.
        recipe: The recipe of its classifier.
        images: A folder of images to evaluate on instead of the run's own test images.

    Returns:
        See the attributes of ``RunData``.

    Raises:
        InputError: if that folder cannot be used.
    """
    data, splits, note = None, [], ""
    try:
        found = data_of_run(config)
        resizing = Resizing(found.image_size, found.fit, found.interpolation)
        if (found.class_names, resizing) != (recipe.class_names, recipe.resizing):
            raise InputError("the classes, the image size, the fit or the interpolation of the run's data have changed")
        if checkpoint.get(type(found).__qualname__, {}).get("digest") in (None, found.train_set.digest):
            data = found
            if data.val_set is not None:
                splits.append(EvaluationSplit("val", data.val_set.images, data.val_set.rows))
        else:
            note = "the training images have changed since the run, and may now include its validation images"
        if images is None and (test := found.load("test")) is not None:
            splits.append(EvaluationSplit("test", test, torch.arange(len(test))))
    except InputError as error:
        note = str(error)
    if images is not None:
        own = own_images(Path(images), recipe)
        splits.append(EvaluationSplit("test", own, torch.arange(len(own))))
    return data, splits, note


def data_of_run(config: dict[str, Any]) -> ImageDataModule:
    """Return the data module of a run's configuration; raises InputError if it has none."""
    if "data" not in config:
        raise InputError("the checkpoint is not in its run's folder, where config.yaml names the data")
    parser = Parser()
    parser.add_subclass_arguments(ImageDataModule, "data")
    data: ImageDataModule = parser.instantiate_classes(parser.parse_object({"data": config["data"]})).data
    return data


def splits_of(data: ImageDataModule) -> dict[Split, ImageDataset]:
    """Return the images of each split that exists, without augmentation."""
    (train, val), test = data.train_and_val, data.load("test")
    found: dict[Split, ImageDataset | None] = {"train": train, "val": val}
    found["test"] = None if test is None else ImageDataset(test, torch.arange(len(test)))
    return {split: images for split, images in found.items() if images}


def own_images(folder: Path, recipe: Recipe) -> ImageTensors:
    """Return the images of a folder of class folders, or of its ``test``, in the classifier's image size."""
    if not folder.is_dir():
        raise InputError(f"--images: no such folder: {folder}")
    folder = folder / "test" if (folder / "test").is_dir() else folder
    return decode_folder(folder, recipe.class_names, user_cache_dir(), **recipe.resizing._asdict()).images


def other_cifar(data: ImageDataModule | None) -> dict[str, Tensor]:
    """Return test images of CIFAR-100 if the data is CIFAR-10, and vice versa, by the name of the dataset.

    Empty for other data, and if the other dataset is not complete in the same folder.
    """
    if not isinstance(data, CIFAR10 | CIFAR100):
        return {}
    other = (CIFAR100 if isinstance(data, CIFAR10) else CIFAR10)(root=str(data.root))
    if not other.is_downloaded:
        return {}
    test = other.load("test")
    assert test is not None
    return {other.torchvision_name: test.pixels[:: -(-len(test) // _MAX_OOD_IMAGES)]}


def images_below(folder: Path, recipe: Recipe) -> Tensor:
    """Return the images below a folder, uint8 (N, 3, H, W), in the classifier's image size; at most 2,000 of them.

    Raises:
        InputError: if there is no such folder or no image, or one cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}")
    files = sorted(image_files(folder))
    if not files:
        raise InputError(f"there are no images below {folder}")
    files = files[:: -(-len(files) // _MAX_OOD_IMAGES)]
    pixels = [torch.from_numpy(read_image(file, recipe.resizing).copy()) for file in files]
    return torch.stack(pixels).permute(0, 3, 1, 2).contiguous()
