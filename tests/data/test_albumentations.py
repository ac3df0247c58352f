from typing import Any

import pytest
import torch
import yaml

from cifar_lit.data.albumentations import AlbumentationsPipeline
from cifar_lit.errors import InputError
from tests.support.program import ROOT

MEAN = (0.5, 0.25, 0.75)
COLOR = (128, 64, 191)
RECIPES = {  # largest shift in pixels, cutout size, cutout probability
    "resnet9_s0": (4, 16, 0.5),
    "resnet9_s2": (4, 8, 0.5),
    "resnet18_s3": (4, 16, 0.5),
    "resnet9_s4": (8, 8, 0.2),
}


def recipe_pipeline(name: str) -> list[dict[str, Any]]:
    config = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
    transforms: list[dict[str, Any]] = config["data"]["init_args"]["albumentations"]
    return transforms


@pytest.mark.parametrize("name", RECIPES)
def test_albumentations_of_the_recipes_shift_flip_and_cut_out(name: str) -> None:
    max_shift, size, p = RECIPES[name]
    pad, crop, flip, cutout = recipe_pipeline(name)
    rows = torch.arange(32, dtype=torch.uint8).view(1, 1, 32, 1).expand(600, 3, 32, 32).contiguous() + 1

    # Pad and crop shift the rows by -max_shift to max_shift
    shifted = AlbumentationsPipeline([pad, crop], MEAN, (32, 32))(rows, 0)
    assert shifted.shape == rows.shape
    middle = shifted[:, 0, 16, 16].int()
    assert set((middle - 17).tolist()) == set(range(-max_shift, max_shift + 1))
    corner = shifted[middle == 17 - max_shift][0, :, 0, 16]  # the largest shift down, so its first row is padding
    assert tuple(corner.tolist()) == COLOR

    flipped = AlbumentationsPipeline([flip], MEAN, (32, 32))(rows.transpose(2, 3), 0)
    assert 240 < int((flipped[:, 0, 0, 0] == 32).sum()) < 360

    plain = torch.full((600, 3, 32, 32), 7, dtype=torch.uint8)
    cut = AlbumentationsPipeline([cutout], MEAN, (32, 32))(plain, 0)
    covered = (cut != 7).all(1).sum((1, 2))
    assert set(covered.tolist()) == {0, size**2}
    assert abs((covered > 0).float().mean() - p) < 0.08
    colors = cut.permute(0, 2, 3, 1).reshape(-1, 3).unique(dim=0).tolist()
    assert {tuple(color) for color in colors} == {(7, 7, 7), COLOR}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_augment_batches_with_the_same_settings(name: str) -> None:
    max_shift, size, p = RECIPES[name]
    settings = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())["data"]["init_args"]
    crop, flip, cutout = settings["augment"]
    assert settings["route"] == "batched"
    assert crop == {"class_path": "RandomCrop", "init_args": {"padding": max_shift, "mode": "mean"}}
    assert flip == "HorizontalFlip"
    assert cutout == {"class_path": "Cutout", "init_args": {"size": size, "p": p}}


def test_pipeline_is_deterministic_given_the_seed() -> None:
    pixels = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)
    transforms = recipe_pipeline("resnet9_s4")
    first, second = (AlbumentationsPipeline(transforms, MEAN, (32, 32)) for _ in range(2))
    assert torch.equal(first(pixels, 3), second(pixels, 3))
    assert torch.equal(first(pixels, 3), first(pixels, 3))
    assert not torch.equal(first(pixels, 3), first(pixels, 4))


def test_transforms_can_be_nested() -> None:
    transforms = [{"OneOf": {"transforms": [{"HorizontalFlip": {"p": 1.0}}], "p": 1.0}}]
    pixels = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(AlbumentationsPipeline(transforms, MEAN, (8, 8))(pixels, 0), pixels.flip(-1))


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        ([{"HorizontalFlop": {}}], "no transform 'HorizontalFlop'"),
        ([{"CoarseDropout": {"max_holes": 1}}], "CoarseDropout.*max_holes"),  # an argument of version 1.x
        ([{"HorizontalFlip": {"p": 2}}], "HorizontalFlip.*p"),
        ([{"PadIfNeeded": {"min_height": 4, "min_width": 4}}], "has no effect.*32x32.*40"),
        ([{"CropAndPad": {"px": 4, "fill": "mean"}}], "use Pad"),
        ([{"Normalize": {}}], "float32 of shape .*remove Normalize"),  # or the images would be normalized twice
        ([{"ToTensorV2": {}}], r"shape \(3, 32, 32\).*remove"),
        ([{"RandomScale": {"p": 0.5}}], "returns images of different sizes, such as"),
        ([{"OneOf": {"transforms": [{"RandomScale": {}}], "p": 0.01}}], "returns images of different sizes"),
        ([{"RandomCrop": {"height": 40, "width": 40}}], "40.* 32"),
        ([{"HorizontalFlip": {}, "VerticalFlip": {}}], "each list entry must name exactly one transform"),
    ],
)
def test_invalid_pipelines_are_refused(transforms: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AlbumentationsPipeline(transforms, MEAN, (32, 32))


@pytest.mark.parametrize("transform", [{"Normalize": {"p": 0.5}}, {"ToGray": {"num_output_channels": 1, "p": 0.5}}])
def test_random_conversion_to_another_format_is_refused(transform: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="remove Normalize"):
        AlbumentationsPipeline([transform], MEAN, (32, 32))


@pytest.mark.parametrize(
    "transforms",
    [
        [{"ShiftScaleRotate": {"p": 0.5}}],  # of which albumentations says that it is a special case of Affine
        [{"RandomScale": {"p": 0.5}}, {"Resize": {"height": 32, "width": 32}}],
        [{"RandomResizedCrop": {"size": [24, 24]}}],
    ],
)
def test_valid_pipelines_are_not_refused(transforms: list[dict[str, Any]]) -> None:
    pixels = torch.zeros(20, 3, 32, 32, dtype=torch.uint8)
    assert len(AlbumentationsPipeline(transforms, MEAN, (32, 32))(pixels, 0)) == 20
