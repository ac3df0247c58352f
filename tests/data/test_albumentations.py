from tests.support.program import ROOT
from typing import Any

import pytest
import torch
import yaml

from cifar_lit.data.albumentations import AlbumentationsPipeline
from cifar_lit.errors import InputError

MEAN = (0.5, 0.25, 0.75)
COLOUR = (128, 64, 191)
SYSTEMS = {
    "resnet9_s0": (4, 16, 0.5),  # moves by up to so many pixels, cuts so large a square, so often
    "resnet9_s2": (4, 8, 0.5),
    "resnet18_s3": (4, 16, 0.5),
    "resnet9_s4": (8, 8, 0.2),
}


def system_pipeline(name: str) -> list[dict[str, Any]]:
    config = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
    transforms: list[dict[str, Any]] = config["data"]["init_args"]["albumentations"]
    return transforms


@pytest.mark.parametrize("name", SYSTEMS)
def test_systems_pipelines_move_flip_and_cut_as_they_say(name: str) -> None:
    move, square, share = SYSTEMS[name]
    pad, crop, flip, cutout = system_pipeline(name)
    rows = torch.arange(32, dtype=torch.uint8).view(1, 1, 32, 1).expand(600, 3, 32, 32).contiguous() + 1

    # the pad and the crop: the first row of the original is found from -move to +move rows away
    moved = AlbumentationsPipeline([pad, crop], MEAN, (32, 32))(rows, 0)
    assert moved.shape == rows.shape
    middle = moved[:, 0, 16, 16].int()
    assert set((middle - 17).tolist()) == set(range(-move, move + 1))
    corner = moved[middle == 17 - move][0, :, 0, 16]  # moved furthest down, so padding is in its first row
    assert tuple(corner.tolist()) == COLOUR

    mirrored = AlbumentationsPipeline([flip], MEAN, (32, 32))(rows.transpose(2, 3), 0)
    assert 240 < int((mirrored[:, 0, 0, 0] == 32).sum()) < 360

    plain = torch.full((600, 3, 32, 32), 7, dtype=torch.uint8)
    cut = AlbumentationsPipeline([cutout], MEAN, (32, 32))(plain, 0)
    covered = (cut != 7).all(1).sum((1, 2))
    assert set(covered.tolist()) == {0, square**2}
    assert abs((covered > 0).float().mean() - share) < 0.08
    assert {tuple(colour) for colour in cut.permute(0, 2, 3, 1).reshape(-1, 3).unique(dim=0).tolist()} == {
        (7, 7, 7),
        COLOUR,
    }


@pytest.mark.parametrize("name", SYSTEMS)
def test_systems_augment_whole_batches_in_the_same_way(name: str) -> None:
    move, square, share = SYSTEMS[name]
    settings = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())["data"]["init_args"]
    crop, flip, cutout = settings["augment"]
    assert settings["route"] == "batched"
    assert crop == {"class_path": "RandomCrop", "init_args": {"padding": move, "mode": "mean"}}
    assert flip == "HorizontalFlip"
    assert cutout == {"class_path": "Cutout", "init_args": {"size": square, "p": share}}


def test_the_seed_decides_everything() -> None:
    pixels = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)
    transforms = system_pipeline("resnet9_s4")
    first, second = (AlbumentationsPipeline(transforms, MEAN, (32, 32)) for _ in range(2))
    assert torch.equal(first(pixels, 3), second(pixels, 3))
    assert torch.equal(first(pixels, 3), first(pixels, 3))
    assert not torch.equal(first(pixels, 3), first(pixels, 4))


def test_transforms_nest() -> None:
    transforms = [{"OneOf": {"transforms": [{"HorizontalFlip": {"p": 1.0}}], "p": 1.0}}]
    pixels = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(AlbumentationsPipeline(transforms, MEAN, (8, 8))(pixels, 0), pixels.flip(-1))


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        ([{"HorizontalFlop": {}}], "no transform 'HorizontalFlop'"),
        ([{"CoarseDropout": {"max_holes": 1}}], "CoarseDropout.*max_holes"),  # an argument of version 1.x
        ([{"HorizontalFlip": {"p": 2}}], "HorizontalFlip.*p"),
        ([{"PadIfNeeded": {"min_height": 4, "min_width": 4}}], "changes nothing.*32x32.*40"),
        ([{"CropAndPad": {"px": 4, "fill": "mean"}}], "take Pad"),
        ([{"Normalize": {}}], "float32 of shape .*leave out Normalize"),  # or the network would normalise once more
        ([{"ToTensorV2": {}}], r"shape \(3, 32, 32\).*leave out"),
        ([{"RandomCrop": {"height": 40, "width": 40}}], "40.* 32"),
        ([{"HorizontalFlip": {}, "VerticalFlip": {}}], "each entry .* names one transform"),
    ],
)
def test_a_pipeline_that_would_not_do_what_it_says_is_refused(transforms: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AlbumentationsPipeline(transforms, MEAN, (32, 32))


@pytest.mark.parametrize("transform", [{"Normalize": {"p": 0.5}}, {"ToGray": {"num_output_channels": 1, "p": 0.5}}])
def test_what_only_chance_makes_no_image_of_bytes_is_refused_when_it_does(transform: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="leave out Normalize"):
        AlbumentationsPipeline([transform], MEAN, (32, 32))(torch.zeros(64, 3, 32, 32, dtype=torch.uint8), 1)
