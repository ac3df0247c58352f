"""Tests on the real CIFAR-10 in the folder given by CIFAR_LIT_TEST_DATA."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from cifar_lit.data.cifar import CIFAR10
from cifar_lit.data.folders import ClassFolders

DATA = os.environ.get("CIFAR_LIT_TEST_DATA", "")
pytestmark = pytest.mark.skipif(not DATA, reason="set CIFAR_LIT_TEST_DATA to a folder with cifar-10-batches-py")


@pytest.fixture(scope="module")
def cifar10() -> CIFAR10:
    """Return the data module; torchvision checks the MD5 sum of each file."""
    return CIFAR10(root=DATA)


def test_images_and_labels_are_in_the_published_order(cifar10: CIFAR10) -> None:
    train, test = cifar10.load("train"), cifar10.load("test")
    assert train is not None
    assert test is not None
    assert (train.pixels.shape, test.pixels.shape) == ((50_000, 3, 32, 32), (10_000, 3, 32, 32))
    assert train.labels[:5].tolist() == [6, 9, 9, 4, 1]  # frog, truck, truck, deer, automobile
    assert test.labels[:5].tolist() == [3, 8, 8, 0, 6]  # cat, ship, ship, airplane, frog
    assert train.pixels[0, :, 0, 0].tolist() == [59, 62, 63]  # red, green, blue


def test_a_tenth_of_each_class_is_held_out(cifar10: CIFAR10) -> None:
    assert cifar10.val_set is not None
    assert (len(cifar10.train_set), len(cifar10.val_set)) == (45_000, 5_000)
    assert cifar10.val_set.labels.bincount().tolist() == [500] * 10


def test_mean_and_std_match_the_training_images(cifar10: CIFAR10) -> None:
    train = cifar10.load("train")
    assert train is not None
    channels = train.pixels.permute(1, 0, 2, 3).flatten(1).double() / 255
    mean, std = cifar10.own_statistics
    assert channels.mean(1).tolist() == pytest.approx(mean, abs=5e-5)
    assert channels.std(1).tolist() == pytest.approx(std, abs=1e-4)


def test_class_folders_of_png_files_have_the_same_pixels(cifar10: CIFAR10, tmp_path: Path) -> None:
    images = cifar10.load("test")
    assert images is not None
    for index in range(60):
        folder = tmp_path / "train" / cifar10.class_names[images.labels[index]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.pixels[index].permute(1, 2, 0).numpy()).save(folder / f"{index}.png")
    folders = ClassFolders(str(tmp_path), image_size=32, cache_dir=str(tmp_path / "cache"))
    decoded = folders.load("train")
    assert decoded is not None
    order = [int(Path(file).stem) for file in decoded.files]
    assert torch.equal(decoded.pixels, images.pixels[order])
    assert folders.class_names == cifar10.class_names
    assert torch.equal(decoded.labels, images.labels[order])
