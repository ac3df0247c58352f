from tests.support.images import write_class_folders
import hashlib
import multiprocessing
import os
import pickle
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets as tv
from PIL import Image

from cifar_lit.data.augment import HorizontalFlip
from cifar_lit.data.batches import Batch
from cifar_lit.data.cifar import CIFAR10, CIFAR100
from cifar_lit.data.digits import Digits
from cifar_lit.data.folders import ClassFolders
from cifar_lit.data.mixup import Mixing
from cifar_lit.data.splits import hold_out
from cifar_lit.data.statistics import statistics
from cifar_lit.errors import InputError
from space.export.run_images import other_cifar


def test_statistics_equal_numpys_over_all_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5000, 3, 4, 4), dtype=np.uint8)  # more than one block
    mean, std = statistics(torch.from_numpy(pixels))
    np.testing.assert_allclose(mean, (pixels / 255).mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, (pixels / 255).std((0, 2, 3)), rtol=1e-9)


def test_hold_out_is_stratified_seeded_and_disjoint() -> None:
    labels = torch.arange(1000) % 10
    names = [str(label) for label in range(10)]
    kept, held_out = hold_out(labels, 0.1, 0, names)
    assert sorted([*kept.tolist(), *held_out.tolist()]) == list(range(1000))
    assert torch.bincount(labels[held_out]).tolist() == [10] * 10
    assert torch.equal(held_out, hold_out(labels, 0.1, 0, names)[1])
    assert not torch.equal(held_out, hold_out(labels, 0.1, 1, names)[1])


@pytest.mark.parametrize(
    ("labels", "fraction"), [([0, 0, 0, 1], 0.5), ([0, 1] * 10, 0.05), ([0, 1] * 5, 0.9), ([0] * 98 + [1] * 2, 0.1)]
)
def test_hold_out_refuses_what_would_leave_a_class_out(labels: list[int], fraction: float) -> None:
    with pytest.raises(InputError, match=r"cannot be held out.*data\.val_fraction"):
        hold_out(torch.tensor(labels), fraction, 0, ["cat", "dog"])


def test_digits_are_sklearns_in_three_equal_channels() -> None:
    data = Digits()
    train, test = data.load("train"), data.load("test")
    assert train is not None
    assert test is not None
    assert len(train) + len(test) == 1797
    assert len(test) == 359
    assert train.pixels.shape[1:] == (3, 32, 32)
    assert train.pixels.max() == 255
    assert torch.equal(train.pixels[:, 0], train.pixels[:, 2])


def test_splits_do_not_depend_on_the_runs_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Digits().val_set
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    second = Digits().val_set
    assert first is not None
    assert second is not None
    assert torch.equal(first.rows, second.rows)


def test_training_on_everything_leaves_no_validation() -> None:
    data = Digits(val_fraction=0.0)
    assert data.val_set is None
    assert data.val_dataloader() == []
    assert len(data.train_set) == 1438


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"val_fraction": 1.0}, {"val_fraction": -0.1}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"data\.\w+ must be"):
        Digits(**settings)


@pytest.mark.parametrize(("route", "kinds"), [("batched", (1, 0)), ("per_sample", (0, 1)), ("both", (1, 1))])
def test_the_route_chooses_between_two_kinds_of_augmentation(route: Any, kinds: tuple[int, int]) -> None:
    data = Digits(augment=[HorizontalFlip()], albumentations=[{"HorizontalFlip": {}}], route=route)
    assert (len(data.augment), int(data.train_set.pipeline is not None)) == kinds


@pytest.mark.parametrize(
    ("route", "given"),
    [("batched", {"albumentations": [{"HorizontalFlip": {}}]}), ("per_sample", {"augment": [HorizontalFlip()]})],
)
def test_a_route_that_would_leave_out_all_augmentation_is_refused(route: Any, given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"route is {route}"):
        Digits(route=route, **given)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_mixed_labels_are_the_shares_of_the_mixed_images(mixup: float, cutmix: float) -> None:
    pixels = torch.zeros(4, 3, 16, 16, dtype=torch.uint8)
    pixels[::2] = 255  # class 0 is white, class 1 black: the mean brightness is class 0's share
    batch = Batch(pixels, torch.tensor([0, 1, 0, 1]), torch.arange(4))
    for seed in range(5):
        mixed = Mixing(mixup, cutmix, 2)(batch, seed)
        brightness = mixed.pixels.mean((1, 2, 3)) / 255
        torch.testing.assert_close(brightness, mixed.labels[:, 0], atol=1e-5, rtol=0)
        torch.testing.assert_close(mixed.labels.sum(1), torch.ones(4))
    assert torch.equal(Mixing(mixup, cutmix, 2)(batch, 1).pixels, Mixing(mixup, cutmix, 2)(batch, 1).pixels)


# Class folders


def test_class_folders_give_the_pixels_of_the_files_with_their_labels() -> None:
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


def test_folder_val_is_used_where_there_is_one() -> None:
    root = write_class_folders(Path("images"), train=3)
    (root / "test").rename(root / "val")
    data = ClassFolders(str(root))
    assert data.val_set is not None
    assert (len(data.train_set), len(data.val_set)) == (6, 8)
    with pytest.raises(InputError, match="no test images"):
        data.test_dataloader()


@pytest.mark.parametrize(
    ("sizes", "image_size", "expected"),
    [
        ([(12, 20), (12, 20)], None, (12, 20)),  # equal sizes are kept
        ([(12, 20), (30, 20)], None, (64, 64)),
        ([(200, 200), (200, 200)], None, (64, 64)),
        ([(12, 20), (12, 20)], 16, (16, 16)),
    ],
)
def test_image_size(sizes: list[tuple[int, int]], image_size: int | None, expected: tuple[int, int]) -> None:
    for number, size in enumerate(sizes):
        write_class_folders(Path(f"images{number}"), train=2, size=size)
    for file in Path("images1").glob("train/*/*"):
        file.rename(Path("images0", *file.parts[1:3], f"other_{file.name}"))
    data = ClassFolders("images0", image_size=image_size)
    assert data.image_size == expected
    train = data.load("train")
    assert train is not None
    assert train.pixels.shape[-2:] == expected


def cache_writes() -> int:
    return max(file.stat().st_ino for file in Path("cache").rglob("pixels.npy"))


def test_unchanged_folder_is_not_decoded_again() -> None:
    root = write_class_folders(Path("images"))
    first = ClassFolders(str(root)).image_size
    written = cache_writes()
    assert ClassFolders(str(root)).image_size == first
    assert cache_writes() == written


def change_pixels(file: Path) -> None:
    before = file.stat()
    image = np.asarray(Image.open(file)).copy()
    image[:] = 9
    Image.fromarray(image).save(file)
    assert file.stat().st_size == before.st_size
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # same size, same time


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
def test_changed_folder_is_noticed(change: Any) -> None:
    root = write_class_folders(Path("images"), suffix="bmp")  # whose size does not depend on the pixels
    before = ClassFolders(str(root)).train_set.images
    pixels = before.pixels.clone()
    time.sleep(0.02)  # a file system's clock ticks every few milliseconds
    change(root / "train" / "dog" / "003.bmp")
    written = cache_writes()
    after = ClassFolders(str(root)).load("train")
    assert after is not None
    assert cache_writes() != written
    if change is change_pixels:
        assert not torch.equal(after.pixels, pixels)


@pytest.mark.parametrize("name", ["pixels.npy", "labels.npy", "meta.json"])
def test_damaged_cache_is_made_again(name: str) -> None:
    root = write_class_folders(Path("images"))
    expected = ClassFolders(str(root)).load("train")
    assert expected is not None
    pixels, labels = expected.pixels.clone(), expected.labels.clone()
    [file] = Path("cache").rglob(name)
    file.write_bytes(file.read_bytes()[:-100])
    again = ClassFolders(str(root)).load("train")
    assert again is not None
    assert torch.equal(again.pixels, pixels)
    assert torch.equal(again.labels, labels)


def _read_in_time(folder: Path, together: Any, number: int) -> None:
    """Reads the images when the other processes do."""
    os.chdir(folder)
    together.wait()
    images = ClassFolders("images", cache_dir="cache").load("train")
    assert images is not None
    Path(f"told{number}").write_text(f"{len(images)} {int(images.pixels.long().sum())}")


def test_processes_that_make_a_cache_at_once_do_not_harm_each_other() -> None:
    root = write_class_folders(Path("images"), train=200)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    together = context.Barrier(3)
    started = [context.Process(target=_read_in_time, args=(Path.cwd(), together, number)) for number in range(3)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0, 0, 0]
    images = ClassFolders(str(root), cache_dir="cache").load("train")
    assert images is not None
    told = f"{len(images)} {int(images.pixels.long().sum())}"
    assert [Path(f"told{number}").read_text() for number in range(3)] == [told] * 3
    left = {file.suffix for file in Path("cache").rglob("*") if file.is_file()}
    assert left == {".npy", ".json", ".lock"}


def test_unreadable_image_is_refused_or_left_out_when_told_to(capsys: pytest.CaptureFixture[str]) -> None:
    root = write_class_folders(Path("images"))
    (root / "train" / "cat" / "broken.png").write_text("no image")
    with pytest.raises(InputError, match=r"broken\.png cannot be read"):
        ClassFolders(str(root)).train_set  # noqa: B018
    assert len(ClassFolders(str(root), skip_unreadable=True).load("train") or ()) == 20
    assert "left out" in capsys.readouterr().out


def test_all_unreadable_images_are_named_at_once() -> None:
    root = write_class_folders(Path("images"))
    for number in range(12):
        (root / "train" / "cat" / f"broken{number:02}.png").write_text("no image")
    with pytest.raises(InputError, match=r"12 files in .*: cat/broken00\.png, .*broken09\.png and 2 more; replace"):
        ClassFolders(str(root)).train_set  # noqa: B018


def make_train_only(root: Path) -> None:
    for file in root.rglob("train/dog/*"):
        file.unlink()
    (root / "train" / "dog").rmdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: root.rename("moved"), "there is no folder"),
        (lambda root: (root / "train").rename(root / "training"), "no folder train"),
        (make_train_only, "only one class folder, 'cat'"),
        (lambda root: (root / "test" / "dog").rename(root / "test" / "wolf"), "a class that train lacks: wolf"),
        (lambda root: (root / "train" / "bird").mkdir(), "train/bird holds no images"),
    ],
)
def test_folders_that_cannot_be_used_are_refused_in_one_line(spoil: Any, message: str) -> None:
    root = write_class_folders(Path("images"))
    spoil(root)
    with pytest.raises(InputError, match=message):
        ClassFolders(str(root)).train_set  # noqa: B018


def test_unwritable_cache_is_named() -> None:
    root = write_class_folders(Path("images"))
    Path("file").touch()
    with pytest.raises(InputError, match=r"cannot be kept in file.*--data\.cache_dir"):
        ClassFolders(str(root), cache_dir="file").train_set  # noqa: B018


# CIFAR, from archives like the real ones


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a web server that gives out this folder."""

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Silent) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def write_archive(
    folder: Path, dataset: type[tv.CIFAR10], key: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Writes an archive of ten images a batch, and tells torchvision its address and checksums."""
    random = np.random.default_rng(0)
    members = {}
    for name, _ in dataset.train_list + dataset.test_list:
        batch = {"data": random.integers(0, 256, (10, 3072), dtype=np.uint8), key: list(range(10))}
        members[name] = pickle.dumps(batch)
    members[dataset.meta["filename"]] = pickle.dumps({dataset.meta["key"]: [str(label) for label in range(10)]})
    archive = folder / dataset.filename
    folder.mkdir(exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in members.items():
            (folder / name).write_bytes(content)
            tar.add(folder / name, f"{dataset.base_folder}/{name}")
    checksum = {name: hashlib.md5(content).hexdigest() for name, content in members.items()}
    monkeypatch.setattr(dataset, "url", f"{server}/{archive}")
    monkeypatch.setattr(dataset, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    for attribute in ("train_list", "test_list"):
        monkeypatch.setattr(dataset, attribute, [[name, checksum[name]] for name, _ in getattr(dataset, attribute)])
    meta = dataset.meta | {"md5": checksum[dataset.meta["filename"]]}
    monkeypatch.setattr(dataset, "meta", meta)
    return archive


@pytest.mark.parametrize(
    ("data_class", "dataset", "key", "images"),
    [(CIFAR10, tv.CIFAR10, "labels", 50), (CIFAR100, tv.CIFAR100, "fine_labels", 10)],
)
def test_cifar_is_downloaded_checked_and_read(
    data_class: type[CIFAR10],
    dataset: type[tv.CIFAR10],
    key: str,
    images: int,
    server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_archive(Path("server"), dataset, key, server, monkeypatch)
    train = data_class(root="data").load("train")
    assert train is not None
    assert train.pixels.shape == (images, 3, 32, 32)
    expected = pickle.loads(Path("server", dataset.train_list[0][0]).read_bytes())
    assert np.array_equal(train.pixels[3].flatten().numpy(), expected["data"][3])
    assert train.labels[:10].tolist() == list(range(10))
    test = data_class(root="data").load("test")
    assert test is not None
    assert len(test) == 10
    assert data_class(root="data").load("val") is None


def test_other_training_images_have_another_name() -> None:
    root = write_class_folders(Path("images"), train=20)
    settings: dict[str, object] = {"root": str(root), "cache_dir": "cache"}
    first = ClassFolders(**settings).training_digest  # type: ignore[arg-type]
    assert ClassFolders(**settings, num_workers=2).training_digest == first  # type: ignore[arg-type]
    for other in ({"split_seed": 1}, {"folds": 5, "fold": 0}, {"folds": 5, "fold": 1}, {"val_fraction": 0}):
        assert ClassFolders(**settings, **other).training_digest != first  # type: ignore[arg-type]
    names = [root / "train" / name for name in ("cat/000.png", "dog/001.png")]
    names[0].rename(root / "train" / "dog" / "new.png")  # as many of each class as before, and in the same places
    names[1].rename(root / "train" / "cat" / "new.png")
    assert ClassFolders(**settings).training_digest != first  # type: ignore[arg-type]


def test_files_of_images_are_known() -> None:
    root = write_class_folders(Path("images"), train=3)
    for _ in range(2):  # decoded, then read from the cache
        images = ClassFolders(root=str(root), cache_dir="cache").load("train")
        assert images is not None
        assert list(images.files) == [f"{name}/00{number}.png" for name in ("cat", "dog") for number in range(3)]


def test_the_other_cifar_is_at_hand_where_it_was_downloaded(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert other_cifar(CIFAR10(root="data")) == {}
    write_archive(Path("server"), tv.CIFAR100, "fine_labels", server, monkeypatch)
    test = CIFAR100(root="data").load("test")
    assert test is not None
    found = other_cifar(CIFAR10(root="data"))
    assert list(found) == ["CIFAR100"]
    assert torch.equal(found["CIFAR100"], test.pixels)
    assert other_cifar(None) == {}
    next(Path("data", tv.CIFAR100.base_folder).glob("test")).write_bytes(b"damaged")
    assert other_cifar(CIFAR10(root="data")) == {}


def test_names_of_cifar_are_the_archives() -> None:
    assert CIFAR10().class_names[:3] == ["airplane", "automobile", "bird"]
    assert (CIFAR10().num_classes, CIFAR100().num_classes) == (10, 100)
    assert sorted(CIFAR100().class_names) == CIFAR100().class_names


def test_cifar_that_cannot_be_had_says_what_to_do(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_archive(Path("server"), tv.CIFAR10, "labels", server, monkeypatch)

    content = archive.read_bytes()
    archive.write_bytes(content[:-10])  # damaged on the way
    with pytest.raises(InputError, match=r"could not be downloaded .* or is damaged.*ClassFolders"):
        CIFAR10(root="data").load("train")

    monkeypatch.setattr(tv.CIFAR10, "url", f"{server}/nowhere.tar.gz")
    with pytest.raises(InputError, match="With a network connection"):
        CIFAR10(root="elsewhere").load("train")

    Path("file").touch()
    with pytest.raises(InputError, match="file"):
        CIFAR10(root="file/data").load("train")
