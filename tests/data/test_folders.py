import errno
import multiprocessing
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cifar_lit.data.augment import HorizontalFlip
from cifar_lit.data.augment_geometry import RandomResizedCrop
from cifar_lit.data.folders import ClassFolders
from cifar_lit.errors import InputError
from cifar_lit.inference.images import Fit, Interpolation
from tests.support.images import write_class_folders


def test_class_folders_load_pixels_labels_and_statistics() -> None:
    root = write_class_folders(Path("images"), ("b", "a", "c"), train=3)
    data = ClassFolders(str(root))
    train = data.load("train")
    assert train is not None
    assert data.class_names == ["a", "b", "c"]
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    first_a = np.asarray(Image.open(root / "train" / "a" / "000.png"))
    assert np.array_equal(train.pixels[0].permute(1, 2, 0).numpy(), first_a)
    mean, std = data.own_statistics
    scaled = train.pixels.double() / 255
    torch.testing.assert_close(torch.tensor(mean).double(), scaled.mean((0, 2, 3)), atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.tensor(std).double(), scaled.std((0, 2, 3), correction=0), atol=1e-6, rtol=0)


def files_of(data: ClassFolders) -> list[set[str]]:
    """Return the files of train, val and test."""
    train, test = data.load("train"), data.load("test")
    assert train is not None
    assert test is not None
    assert data.val_set is not None
    splits = [{train.files[row] for row in part.indices.tolist()} for part in (data.train_set, data.val_set)]
    return [*splits, set(test.files)]


def test_a_folder_of_classes_is_split_the_same_way_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    root = write_class_folders(Path("images"), train=40) / "train"
    splits = files_of(ClassFolders(str(root)))
    assert splits == files_of(ClassFolders(str(root)))
    assert [len(files) for files in splits] == [65, 7, 8]
    assert len(set.union(*splits)) == 80
    assert len([file for file in splits[2] if file.startswith("cat")]) == 4
    said = "images/train is not split: 8 of its 80 images, the same in every run, are test images\n"
    assert said in capsys.readouterr().out
    assert not ClassFolders(str(root), test_fraction=0).has_test_images


def test_the_images_of_a_group_stay_together() -> None:
    root = write_class_folders(Path("images"), train=40) / "train"  # cat/000.png: groups of ten
    data = ClassFolders(str(root), test_fraction=0.25, val_fraction=0.3, group_pattern=r"/0(\d)\d\.png")
    groups = [{file[-6] for file in files} for files in files_of(data)]
    assert [len(part) for part in groups] == [2, 1, 1]
    assert set.union(*groups) == set("0123")
    fold = ClassFolders(str(root), test_fraction=0, folds=4, fold=1, group_pattern=r"/0(\d)")
    assert fold.val_set is not None
    assert len({fold.val_set.images.files[row][-6] for row in fold.val_set.indices.tolist()}) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group_pattern": "patient"}, "matches nothing in 8 of 8 paths, such as cat/000.png"),
        ({"group_pattern": "("}, "is not a regular expression"),
        ({"group_pattern": "cat|dog"}, r"in 2 groups cannot be held out for test .* or change data\.test_fraction"),
        ({"test_fraction": 1}, "data.test_fraction must be at least 0 and below 1, got 1"),
        ({"folds": 3, "test_fraction": 0, "group_pattern": "cat|dog"}, "at most the 2 groups of images, got 3"),
    ],
)
def test_splits_that_cannot_be_made_are_named(options: dict[str, Any], message: str) -> None:
    root = write_class_folders(Path("images"), train=4) / "train"
    with pytest.raises(InputError, match=message):
        assert ClassFolders(str(root), **options).train_set


def test_val_folder_is_used_for_validation() -> None:
    root = write_class_folders(Path("images"), train=3)
    (root / "test").rename(root / "val")
    data = ClassFolders(str(root))
    assert data.val_set is not None
    assert (len(data.train_set), len(data.val_set)) == (6, 8)
    with pytest.raises(InputError, match="no test images"):
        data.test_dataloader()


def test_other_names_of_the_split_folders_are_known_and_other_folders_named(capsys: pytest.CaptureFixture[str]) -> None:
    root = write_class_folders(Path("images"), train=3)
    (root / "train").rename(root / "Training")
    (root / "test").rename(root / "valid")
    for name in ("holdout", "@eaDir", ".git"):
        (root / name).mkdir()
    data = ClassFolders(str(root))
    assert (len(data.train_set), len(data.val_set or ())) == (6, 8)
    assert not data.has_test_images
    assert capsys.readouterr().out.startswith("Folders of images that are not used: holdout\n")


def test_files_left_out_are_counted_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    root = write_class_folders(Path("images"), train=3)
    (root / "train" / "cat" / "@eaDir").mkdir()
    shutil.copy(root / "train" / "cat" / "000.png", root / "train" / "cat" / "@eaDir")
    (root / "train" / "@eaDir").mkdir()
    (root / "train" / "dog" / "phone.raw").touch()
    (root / "train" / "lost.png").touch()
    for _ in range(2):  # decoded, then read from the cache
        data = ClassFolders(str(root), cache_dir="cache")
        assert data.class_names == ["cat", "dog"]
        assert len(data.load("train") or ()) == 6
        said = "2 files left out of images/train: in no class folder 1, .raw 1; folders: @eaDir/ 2\n"
        assert said in capsys.readouterr().out
    for file in (root / "train" / "dog").glob("*.png"):
        file.rename(file.with_suffix(".raw"))
    with pytest.raises(InputError, match="contains no images of class 'dog'"):
        ClassFolders(str(root), cache_dir="cache").load("train")


def test_a_folder_in_the_home_folder_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd()))
    write_class_folders(Path("images"), train=3)
    assert ClassFolders("~/images").class_names == ["cat", "dog"]


def test_a_channel_that_is_the_same_everywhere_can_be_normalized() -> None:
    for name in ("a", "b"):
        Path("images/train", name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8), (0, 60 * number, 0)).save(f"images/train/{name}/{number}.png")
    data = ClassFolders("images")
    assert data.std == pytest.approx([1 / 255, data.std[1], 1 / 255])
    with pytest.raises(InputError, match=r"data\.std must be greater than 0"):
        ClassFolders("images", std=[0.1, 0.0, 0.1])


@pytest.mark.parametrize(
    ("sizes", "image_size", "expected"),
    [
        ([(12, 20), (12, 20)], None, (12, 20)),  # kept, since all have the same size
        ([(12, 20), (30, 20)], None, (64, 64)),
        ([(200, 200), (200, 200)], None, (64, 64)),
        ([(12, 20), (12, 20)], 16, (16, 16)),
    ],
)
def test_images_are_resized_unless_small_and_of_one_size(
    sizes: list[tuple[int, int]], image_size: int | None, expected: tuple[int, int]
) -> None:
    for number, size in enumerate(sizes):
        write_class_folders(Path(f"images{number}"), train=2, size=size)
    for file in Path("images1").glob("train/*/*"):
        file.rename(Path("images0", *file.parts[1:3], f"other_{file.name}"))
    data = ClassFolders("images0", image_size=image_size)
    assert data.image_size == expected
    train = data.load("train")
    assert train is not None
    assert train.pixels.shape[-2:] == expected


def wide_folders() -> Path:
    """Write images of 60x30, red left of the middle and blue right of it, between bars of white."""
    pixels = np.full((30, 60, 3), 255, np.uint8)
    pixels[5:25, :30], pixels[5:25, 30:] = (255, 0, 0), (0, 0, 255)
    for name in ("a", "b"):
        for number in range(20):
            Path("wide", name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(f"wide/{name}/{number}.png")
    return Path("wide")


@pytest.mark.parametrize(
    ("fit", "left", "top"), [("crop", [255, 0, 0], 255), ("pad", [255, 0, 0], 128), ("stretch", [255, 0, 0], 255)]
)
def test_images_are_cropped_padded_or_stretched(fit: Fit, left: list[int], top: int) -> None:
    data = ClassFolders(str(wide_folders()), image_size=(24, 24), fit=fit)
    train = data.load("train")
    assert train is not None
    assert data.fit == fit
    image = train.pixels[0].permute(1, 2, 0)
    assert image[12, 0].tolist() == left
    assert image[12, -1].tolist() == left[::-1]
    assert image[0, 12].tolist() == [top] * 3
    rows = (image[:, 0, 1] < 128).sum()  # of red in the first column
    assert rows == {"crop": 16, "pad": 8, "stretch": 16}[fit]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_images_are_resized_by_the_chosen_interpolation(interpolation: Interpolation) -> None:
    data = ClassFolders(str(wide_folders()), image_size=(24, 24), fit="stretch", interpolation=interpolation)
    train = data.load("train")
    assert train is not None
    with Image.open("wide/a/0.png") as image:
        expected = image.resize((24, 24), Image.Resampling[interpolation.upper()])
    assert np.array_equal(train.pixels[0].permute(1, 2, 0), expected)


def test_images_can_be_higher_than_wide() -> None:
    data = ClassFolders(str(wide_folders()), image_size=(32, 16))
    train = data.load("train")
    assert train is not None
    assert data.image_size == train.pixels.shape[2:] == (32, 16)
    assert train.pixels[0, 0, 16, :8].min() > 240
    assert train.pixels[0, 2, 16, 8:].min() > 240


def test_training_images_can_be_larger_before_they_are_cropped() -> None:
    options: dict[str, Any] = {"image_size": 16, "decode_size": (20, 24), "batch_size": 8}
    data = ClassFolders(str(wide_folders()), augment=[RandomResizedCrop(16)], **options)
    assert data.sizes == [(16, 16)]
    assert next(iter(data.train_dataloader())).pixels.shape == (8, 3, 20, 24)
    assert next(iter(data.val_dataloader())).pixels.shape[2:] == (16, 16)
    assert next(iter(data.test_dataloader())).pixels.shape[2:] == (16, 16)
    assert data.train_set.images.pixels.shape[2:] == (16, 16)  # for what looks at the images as they are evaluated
    cropped = [{"RandomCrop": {"height": 16, "width": 16}}]
    assert ClassFolders("wide", albumentations=cropped, **options).sizes == [(16, 16)]
    with pytest.raises(InputError, match=r"such as RandomResizedCrop with size: \[16, 16\]"):
        _ = ClassFolders("wide", augment=[HorizontalFlip()], **options).sizes


def cache_inode() -> int:
    return max(file.stat().st_ino for file in Path("cache").rglob("pixels.npy"))


def test_unchanged_folder_is_decoded_only_once() -> None:
    root = write_class_folders(Path("images"))
    first = ClassFolders(str(root)).image_size
    inode = cache_inode()
    assert ClassFolders(str(root)).image_size == first
    assert cache_inode() == inode


def change_pixels(file: Path) -> None:
    before = file.stat()
    image = np.asarray(Image.open(file)).copy()
    image[:] = 9
    Image.fromarray(image).save(file)
    assert file.stat().st_size == before.st_size
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # same size and time


@pytest.mark.parametrize(
    "change",
    [
        change_pixels,
        Path.unlink,
        lambda file: file.rename(file.with_name("renamed.bmp")),
        lambda file: file.with_name("new.bmp").write_bytes(file.read_bytes()),
    ],
    ids=["pixels", "removed", "renamed", "added"],
)
def test_changed_folder_is_decoded_again(change: Any) -> None:
    root = write_class_folders(Path("images"), suffix="bmp")  # a format whose file size does not depend on the pixels
    pixels = ClassFolders(str(root)).train_set.images.pixels.clone()
    time.sleep(0.02)  # file timestamps have a resolution of a few milliseconds
    change(root / "train" / "dog" / "003.bmp")
    inode = cache_inode()
    after = ClassFolders(str(root)).train_set.images
    assert cache_inode() != inode
    if change is change_pixels:
        assert not torch.equal(after.pixels, pixels)


@pytest.mark.parametrize("name", ["pixels.npy", "labels.npy", "meta.json"])
def test_damaged_cache_is_rebuilt(name: str) -> None:
    root = write_class_folders(Path("images"))
    expected = ClassFolders(str(root)).train_set.images
    pixels, labels = expected.pixels.clone(), expected.labels.clone()
    [file] = Path("cache").rglob(name)
    file.write_bytes(file.read_bytes()[:-100])
    rebuilt = ClassFolders(str(root)).train_set.images
    assert torch.equal(rebuilt.pixels, pixels)
    assert torch.equal(rebuilt.labels, labels)


def _load_simultaneously(folder: Path, barrier: Any, number: int) -> None:
    """Load the images at the same time as the other processes."""
    os.chdir(folder)
    barrier.wait()
    images = ClassFolders("images", cache_dir="cache").load("train")
    assert images is not None
    Path(f"result{number}").write_text(f"{len(images)} {int(images.pixels.long().sum())}")


def test_processes_can_create_the_cache_simultaneously() -> None:
    root = write_class_folders(Path("images"), train=200)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    arguments = Path.cwd(), context.Barrier(3)
    processes = [context.Process(target=_load_simultaneously, args=(*arguments, number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    images = ClassFolders(str(root), cache_dir="cache").load("train")
    assert images is not None
    expected = f"{len(images)} {int(images.pixels.long().sum())}"
    assert [Path(f"result{number}").read_text() for number in range(3)] == [expected] * 3
    suffixes = {file.suffix for file in Path("cache").rglob("*") if file.is_file()}
    assert suffixes == {".npy", ".json", ".lock"}


def test_unreadable_image_is_refused_or_skipped_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    root = write_class_folders(Path("images"))
    (root / "train" / "cat" / "broken.png").write_text("no image")
    with pytest.raises(InputError, match=r"broken\.png cannot be read"):
        ClassFolders(str(root)).train_set  # noqa: B018
    skipping = ClassFolders(str(root), skip_unreadable=True)
    found = skipping.load("train")
    assert capsys.readouterr().out.count("skipped") == 1
    (root / "train" / "cat" / "broken.png").unlink()
    intact = ClassFolders(str(root))
    expected = intact.load("train")
    assert found is not None
    assert expected is not None
    assert (len(found.pixels), found.files) == (20, expected.files)
    assert torch.equal(found.pixels, expected.pixels)
    assert torch.equal(found.labels, expected.labels)
    assert skipping.own_statistics == intact.own_statistics


def test_all_unreadable_images_are_reported_at_once() -> None:
    root = write_class_folders(Path("images"))
    for number in range(12):
        (root / "train" / "cat" / f"broken{number:02}.png").write_text("no image")
    with pytest.raises(InputError, match=r"12 files in .*: cat/broken00\.png, .*broken09\.png and 2 more; replace"):
        ClassFolders(str(root)).train_set  # noqa: B018


def remove_train_dog(root: Path) -> None:
    for file in root.rglob("train/dog/*"):
        file.unlink()
    (root / "train" / "dog").rmdir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: root.rename("moved"), "does not exist; choose another with --data.root"),
        (lambda root: (root / "train").rename(root / "images"), "no folder train"),
        (lambda root: shutil.copytree(root / "test", root / "Testing"), "has Testing and test, which mean the same"),
        (remove_train_dog, "only one class folder, 'cat'"),
        (lambda root: (root / "test" / "dog").rename(root / "test" / "wolf"), "missing from train: wolf"),
        (lambda root: (root / "train" / "bird").mkdir(), "contains no images of class 'bird'"),
        (
            lambda root: (root / "train" / os.fsdecode(b"caf\xe9")).mkdir(),
            r"a folder 'caf\\udce9', whose name is not UTF-8; rename it",
        ),
    ],
)
def test_unusable_folders_are_refused(change: Any, message: str) -> None:
    root = write_class_folders(Path("images"))
    change(root)
    with pytest.raises(InputError, match=message):
        ClassFolders(str(root)).train_set  # noqa: B018


def test_unwritable_cache_is_refused() -> None:
    root = write_class_folders(Path("images"))
    Path("file").touch()
    with pytest.raises(InputError, match=r"cannot be cached in file.*--data\.cache_dir"):
        ClassFolders(str(root), cache_dir="file").train_set  # noqa: B018


def test_a_full_disk_is_noticed_before_images_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, offset: int, size: int) -> None:
        assert size > 10 * 3 * 8 * 8
        raise OSError(errno.ENOSPC, "No space left on device")

    root = write_class_folders(Path("images"))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"No space left on device.*choose a writable folder with enough space"):
        ClassFolders(str(root), cache_dir="cache").train_set  # noqa: B018
    assert [file.suffix for file in Path("cache").iterdir()] == [".lock"]


def test_images_have_their_file_paths() -> None:
    root = write_class_folders(Path("images"), train=3)
    for _ in range(2):  # decoded, then read from the cache
        images = ClassFolders(root=str(root), cache_dir="cache").load("train")
        assert images is not None
        assert list(images.files) == [f"{name}/00{number}.png" for name in ("cat", "dog") for number in range(3)]
