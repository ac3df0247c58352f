"""What can only be tested on real data: CIFAR-10 in class folders, named by CIFAR_LIT_TEST_DATA."""

import os
from pathlib import Path

import pytest

from cifar_lit.data import cache
from cifar_lit.data.cifar import CIFAR10
from cifar_lit.data.folders import ClassFolders

DATA = os.environ.get("CIFAR_LIT_TEST_DATA", "")
pytestmark = pytest.mark.skipif(not DATA, reason="CIFAR_LIT_TEST_DATA names no folder with CIFAR-10 in class folders")


@pytest.fixture(scope="module")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the decoded images."""
    folder = tmp_path_factory.mktemp("decoded")
    data = ClassFolders(DATA, cache_dir=str(folder))
    data.load("train")
    data.load("test")
    return folder


def test_classes_and_statistics_are_those_that_cifar10_states(decoded: Path) -> None:
    data = ClassFolders(DATA, cache_dir=str(decoded))
    assert data.class_names == CIFAR10().class_names
    (mean, std), (stated_mean, stated_std) = data.own_statistics, CIFAR10().own_statistics
    assert mean == pytest.approx(stated_mean, abs=5e-4)
    assert std == pytest.approx(stated_std, abs=5e-3)  # JPEG smooths
    assert (len(data.train_set), len(data.val_set or ())) == (45_000, 5_000)
    val = data.val_set
    assert val is not None
    assert val.labels.bincount().tolist() == [500] * 10


def test_a_second_start_with_60_000_images_decodes_none(decoded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(cache, "read_image", never)
    data = ClassFolders(DATA, cache_dir=str(decoded))
    assert [len(images) for images in map(data.load, ("train", "test")) if images is not None] == [50_000, 10_000]
