import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from cifar_lit.data.folders import ClassFolders
from cifar_lit.data.image_table import ImageTable
from cifar_lit.errors import InputError
from tests.support.images import write_class_folders
from tests.support.program import ROOT, TINY, Outcome

HEADER = ("file", "label", "split", "group")


def write_table(rows: Sequence[Sequence[str]], columns: int = 2) -> str:
    with Path("labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER[:columns], *rows])
    return "labels.csv"


def listed(split: str = "train", count: int = 20) -> list[tuple[str, str]]:
    return [(f"images/{split}/{name}/{row:03}.png", name) for name in ("dog", "cat") for row in range(count)]


def test_a_table_is_read_like_folders() -> None:
    root = write_class_folders(Path("images"), train=20)
    data, folders = ImageTable(write_table(listed())), ClassFolders(str(root / "train"))
    ours, theirs = data.load("train"), folders.load("train")
    assert ours is not None
    assert theirs is not None
    assert data.class_names == ["cat", "dog"]
    assert torch.equal(ours.pixels[20:], theirs.pixels[:20])  # the order of the table
    assert ours.labels.tolist() == [1] * 20 + [0] * 20
    assert (len(data.train_set), len(data.val_set or ()), data.has_test_images) == (32, 4, True)


def test_splits_and_groups_of_a_table_are_used() -> None:
    write_class_folders(Path("images"), train=20)
    rows = [(*row, "train", row[0][-6:-5] + row[0][-5]) for row in listed()]  # pairs of one cat and one dog
    rows += [(*row, "Test", "") for row in listed("test", 4)]
    data = ImageTable(write_table(rows, 4), val_fraction=0.2)
    train, test = data.load("train"), data.load("test")
    assert train is not None
    assert test is not None
    assert data.val_set is not None
    assert len(test.labels) == 8
    assert len(data.train_set) + len(data.val_set) == 40
    numbers = [{train.files[row][-7:] for row in part.indices.tolist()} for part in (data.train_set, data.val_set)]
    assert not numbers[0] & numbers[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\na,b\n", "must have the columns file and label, got path, label"),
        ("file,label\n", "lists no images"),
        ("file,label\na.png,cat\n", "has only one label, 'cat'"),
        ("file,label\na.png,cat\na.png,dog\n", "lists 1 files more than once, such as a.png"),
        ("file,label\na.png\n", "line 2: a file, a label or another column is missing"),
        ("file,label,split\na.png,cat,dev\n", "line 2: split must be train, val or test, got 'dev'"),
        ("file,label,split\na.png,cat,val\n", "has no image whose split is train"),
        ("file,label\nnone.png,cat\nb.png,dog\n", "none.png cannot be read"),
        (b"\xff\xfe\x00", "cannot be read as CSV"),
    ],
)
def test_mistakes_in_a_table_are_named(content: str | bytes, message: str) -> None:
    Path("labels.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        assert ImageTable("labels.csv").train_set


def test_a_table_given_as_a_folder_is_explained() -> None:
    with pytest.raises(InputError, match=r"--data ImageTable --data\.file labels\.csv"):
        assert ClassFolders(write_table(listed())).class_names


def test_a_network_trains_on_a_table_and_is_exported(program: Callable[..., Outcome]) -> None:
    write_class_folders(Path("images"), train=20)
    arguments: list[Any] = ["--config", ROOT / "configs" / "own_images.yaml", "--data", "ImageTable"]
    outcome = program("fit", *arguments, "--data.file", write_table(listed()), *TINY)
    assert outcome.status == 0, outcome.err
    outcome = program("test")
    assert outcome.status == 0, outcome.err
    assert "of 4 test images are classified correctly" in outcome.out
    outcome = program("export", "--ckpt_path", "best", "--output", "space")
    assert outcome.status == 0, outcome.err
