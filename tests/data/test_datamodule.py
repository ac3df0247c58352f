from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from cifar_lit.data.augment import HorizontalFlip
from cifar_lit.data.batches import Batch
from cifar_lit.data.digits import Digits
from cifar_lit.data.folders import ClassFolders
from cifar_lit.data.mixup import mix
from cifar_lit.data.splits import hold_out
from cifar_lit.data.statistics import mean_and_std
from cifar_lit.errors import InputError
from tests.support.images import write_class_folders


def test_mean_and_std_match_numpy_over_all_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5000, 3, 4, 4), dtype=np.uint8)  # more than one block
    mean, std = mean_and_std(torch.from_numpy(pixels))
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
def test_hold_out_refuses_a_split_without_every_class(labels: list[int], fraction: float) -> None:
    with pytest.raises(InputError, match=r"cannot be held out.*data\.val_fraction"):
        hold_out(torch.tensor(labels), fraction, 0, ["cat", "dog"])


def test_digits_are_those_of_scikit_learn_divided_by_writer() -> None:
    data = Digits()
    splits = [data.load("train"), data.load("val"), data.load("test")]
    assert [len(split) for split in splits] == [1029, 386, 382]
    pixels, labels = torch.cat([split.pixels for split in splits]), torch.cat([split.labels for split in splits])
    assert labels.tolist() == load_digits().target.tolist()
    assert pixels.shape == (1797, 3, 32, 32)
    assert pixels.max() == 255
    assert torch.equal(pixels[:, 0], pixels[:, 2])
    for split in splits:  # each person began by writing the ten digits in order
        assert split.labels[:20].tolist() == [*range(10), *range(10)]


def test_splits_do_not_depend_on_the_run_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Digits(folds=5).val_set
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    second = Digits(folds=5).val_set
    assert first is not None
    assert second is not None
    assert torch.equal(first.rows, second.rows)


def test_val_fraction_0_disables_validation() -> None:
    root = write_class_folders(Path("images"), train=20)
    data = ClassFolders(root=str(root), cache_dir="cache", val_fraction=0.0)
    assert data.val_set is None
    assert data.val_dataloader() == []
    assert len(data.train_set) == len(list(root.rglob("train/*/*.png")))


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"val_fraction": 1.0}, {"val_fraction": -0.1}])
def test_invalid_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"data\.\w+ must be"):
        Digits(**settings)


@pytest.mark.parametrize(("route", "counts"), [("batched", (1, 0)), ("per_sample", (0, 1)), ("both", (1, 1))])
def test_route_selects_the_kind_of_augmentation(route: Any, counts: tuple[int, int]) -> None:
    data = Digits(augment=[HorizontalFlip()], albumentations=[{"HorizontalFlip": {}}], route=route)
    assert (len(data.augment), int(data.train_set.pipeline is not None)) == counts


@pytest.mark.parametrize(
    ("route", "given"),
    [("batched", {"albumentations": [{"HorizontalFlip": {}}]}), ("per_sample", {"augment": [HorizontalFlip()]})],
)
def test_route_that_ignores_all_augmentation_is_refused(route: Any, given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"data.route {route} would ignore"):
        Digits(route=route, **given)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_mixed_labels_are_the_proportions_of_the_mixed_images(mixup: float, cutmix: float) -> None:
    pixels = torch.zeros(4, 3, 16, 16, dtype=torch.uint8)
    pixels[::2] = 255  # class 0 is white and class 1 black, so the mean brightness is the proportion of class 0
    batch = Batch(pixels, torch.tensor([0, 1, 0, 1]), torch.arange(4))
    for seed in range(5):
        mixed = mix(batch, (mixup, cutmix), 2, seed)
        brightness = mixed.pixels.mean((1, 2, 3)) / 255
        torch.testing.assert_close(brightness, mixed.labels[:, 0], atol=1e-5, rtol=0)
        torch.testing.assert_close(mixed.labels.sum(1), torch.ones(4))
    assert torch.equal(mix(batch, (mixup, cutmix), 2, 1).pixels, mix(batch, (mixup, cutmix), 2, 1).pixels)


def test_training_digest_depends_on_the_training_images_only() -> None:
    root = write_class_folders(Path("images"), train=20)
    settings: dict[str, object] = {"root": str(root), "cache_dir": "cache"}
    first = ClassFolders(**settings).train_set.digest  # type: ignore[arg-type]
    assert ClassFolders(**settings, num_workers=2).train_set.digest == first  # type: ignore[arg-type]
    for other in ({"split_seed": 1}, {"folds": 5, "fold": 0}, {"folds": 5, "fold": 1}, {"val_fraction": 0}):
        assert ClassFolders(**settings, **other).train_set.digest != first  # type: ignore[arg-type]
    names = [root / "train" / name for name in ("cat/000.png", "dog/001.png")]
    names[0].rename(root / "train" / "dog" / "new.png")  # same labels in the same order, other images
    names[1].rename(root / "train" / "cat" / "new.png")
    assert ClassFolders(**settings).train_set.digest != first  # type: ignore[arg-type]
