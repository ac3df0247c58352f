"""Decisions of a review, applied to the training images."""

from pathlib import Path

import pytest
import torch

from cifar_lit.csv_text import csv_text, read_csv
from cifar_lit.data.decisions import apply_decisions
from cifar_lit.data.folders import ClassFolders
from cifar_lit.errors import InputError
from tests.support.images import write_class_folders

HEADER = "split,index,file,decision,label\n"


def folders(decisions: str | None = None) -> ClassFolders:
    root = Path("images")
    if not root.is_dir():
        write_class_folders(root, ("cat", "dog"), train=20, test=4)
    if decisions is not None:
        Path("decisions.csv").write_text(HEADER + decisions)
    return ClassFolders(str(root), decisions="decisions.csv" if decisions is not None else None)


def test_training_images_are_relabeled_and_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    plain = folders()
    rows = plain.train_set.rows.tolist()
    relabeled, dropped, kept = rows[0], rows[1], rows[2]
    lines = [f"train,{relabeled},,relabel,dog", f"train,,cat/{dropped:03}.png,drop,", f"train,{kept},,keep,"]
    data = folders("\n".join([*lines, "test,0,,drop,"]))
    assert data.train_set.rows.tolist() == [row for row in rows if row != dropped]
    assert data.train_set.images.labels[relabeled] == 1
    assert plain.train_set.images.labels[relabeled] == 0
    assert "decisions.csv: 1 training images relabeled, 1 dropped" in capsys.readouterr().out
    assert data.val_set is not None
    assert plain.val_set is not None
    assert data.val_set.rows.tolist() == plain.val_set.rows.tolist()
    assert data.train_set.digest != plain.train_set.digest


def test_images_held_out_for_validation_stay_as_they_are() -> None:
    plain = folders()
    assert plain.val_set is not None
    held_out = int(plain.val_set.rows[0])
    data = folders(f"train,{held_out},,relabel,dog\ntrain,{held_out},,drop,")
    assert data.val_set is not None
    assert torch.equal(data.val_set.labels, plain.val_set.labels)
    assert len(data.train_set) == len(plain.train_set)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train,40,,drop,", "line 2: no training image '40'; did the data change"),
        ("train,,cat/999.png,drop,", "line 2: no training image 'cat/999.png'"),
        ("train,0,,remove,", "decision must be keep, relabel, drop, got 'remove'"),
        ("train,0,,relabel,cow", "unknown class 'cow'; the classes are cat, dog"),
        ("\n".join(f"train,{row},,drop," for row in range(20)), "leaves no training images of class 'cat'"),
    ],
)
def test_impossible_decisions_are_refused(line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _ = folders(line).train_set


def test_names_that_look_like_formulas_are_read_as_they_were_written() -> None:
    Path("table.csv").write_text("\ufeff" + csv_text([["file", "label"], ["-a.png", "+ve"], ["'b", "-1"]]))
    assert read_csv(Path("table.csv")) == [{"file": "-a.png", "label": "+ve"}, {"file": "'b", "label": "-1"}]


def test_a_file_without_decisions_is_refused() -> None:
    images = folders().train_set.images
    Path("other.csv").write_text("file,label\ncat/000.png,cat\n")
    with pytest.raises(InputError, match="must have the columns decision, and index or file"):
        apply_decisions(Path("other.csv"), images, torch.arange(4), ["cat", "dog"])
    with pytest.raises(InputError, match="cannot be read as CSV"):
        apply_decisions(Path("none.csv"), images, torch.arange(4), ["cat", "dog"])
