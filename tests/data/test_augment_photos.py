"""The augmentations of photos, against torchvision's."""

from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from cifar_lit.data.augment_color import ColorJitter, RandAugment, TrivialAugment
from cifar_lit.data.augment_geometry import RandomResizedCrop, RandomRotation, affine, resized_crops, rotate
from cifar_lit.errors import InputError
from cifar_lit.randomness import SampleRandom

MEAN = (0.5, 0.25, 0.75)
FILL = [255 * channel for channel in MEAN]


def photos(count: int, height: int = 40, width: int = 48) -> Tensor:
    """Return smooth images with noise, uint8 (count, 3, height, width)."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (smooth * 200 + torch.rand(count, 3, height, width, generator=generator) * 55).to(torch.uint8)


class Fixed(SampleRandom):
    """Random numbers given in advance, one for all samples of a draw."""

    def __init__(self, count: int, values: Sequence[float]) -> None:
        super().__init__(0, 0, torch.arange(count))
        self._values = iter(values)

    def uniform(self) -> Tensor:
        return torch.full_like(self._indices, next(self._values), dtype=torch.float32)

    def integers(self, low: int, high: int) -> Tensor:
        return torch.full_like(self._indices, int(next(self._values)))


def difference(ours: Tensor, theirs: Tensor) -> int:
    return int((ours.int() - theirs.int()).abs().max())


def test_crops_are_resized_as_by_torchvision_on_every_device() -> None:
    pixels = photos(5)
    boxes = torch.tensor([[0, 0, 40, 48], [3, 5, 10, 12], [7, 0, 33, 20], [39, 47, 1, 1], [2, 2, 16, 24]])
    expected = torch.stack(
        [
            reference.resized_crop(image, top, left, height, width, [16, 24], antialias=True)
            for image, (top, left, height, width) in zip(pixels, boxes.tolist(), strict=True)
        ]
    )
    assert torch.equal(resized_crops(pixels, boxes.float(), (16, 24)), expected)
    other = resized_crops(Accelerated(pixels), boxes.float(), (16, 24))  # type: ignore[arg-type]
    assert difference(other, expected) <= 1


class Accelerated:
    """Pixels that claim to be on another device, where the resizing is a product of matrices."""

    def __init__(self, pixels: Tensor) -> None:
        self._pixels, self.shape, self.device = pixels, pixels.shape, torch.device("meta")

    def float(self) -> Tensor:
        return self._pixels.float()


def test_random_resized_crops_have_the_asked_area_and_ratio() -> None:
    crop = RandomResizedCrop(8, scale=(0.25, 0.5), ratio=(0.5, 2.0))
    ramp = torch.arange(100, dtype=torch.uint8)
    pixels = torch.stack([ramp.expand(100, 100), ramp[:, None].expand(100, 100), ramp.expand(100, 100)])
    crops = crop(pixels.expand(500, 3, 100, 100), SampleRandom(0, 0, torch.arange(500)), MEAN).float()
    # The slope of a ramp, whose first and last pixel are 7 of 8 steps apart, is the side of the crop
    widths, heights = ((crops[:, 0, 0, -1] - crops[:, 0, 0, 0]), (crops[:, 1, -1, 0] - crops[:, 1, 0, 0]))
    sides = 8 / 7 * widths, 8 / 7 * heights
    area, ratio = sides[0] * sides[1] / 100**2, sides[0] / sides[1]
    assert 0.23 < area.min() < 0.28
    assert 0.47 < area.max() < 0.53
    assert 0.45 < ratio.min() < 0.6
    assert 1.7 < ratio.max() < 2.2
    assert crops[:, 0].min() < 7
    assert crops[:, 0].max() > 92


def rotated(pixels: Tensor, angle: float) -> Tensor:
    return reference.rotate(pixels, angle, InterpolationMode.BILINEAR, fill=FILL)


def inside(moved: Tensor, move: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the images with 0 at and outside the moved edge, whose color torchvision blends with the fill twice."""
    return moved * (move(torch.full_like(moved, 255)) == 255)


def test_rotations_and_shears_are_those_of_torchvision() -> None:
    pixels, angles = photos(6), [0.0, 10.0, -33.5, 90.0, 180.0, 135.0]
    ours = rotate(pixels, torch.tensor(angles), MEAN)
    for image, pixel, angle in zip(ours, pixels, angles, strict=True):
        move = partial(rotated, angle=angle)
        assert difference(inside(image, move), inside(move(pixel), move)) <= 1
    assert ours[2, :, 0, 0].tolist() == [128, 64, 191]
    shear = torch.tensor([[1.0, 0.3, 0], [0, 1, 0]]).expand(6, 2, 3)
    slant = torch.tensor(0.3).atan().rad2deg().item()
    options = {"interpolation": InterpolationMode.BILINEAR, "fill": FILL}
    move = partial(reference.affine, angle=0, translate=[0, 0], scale=1, shear=[slant, 0], **options)
    assert difference(inside(affine(pixels, shear, MEAN), move), inside(move(pixels), move)) <= 1


def test_rotation_is_uniform_up_to_the_given_angle() -> None:
    pixels = photos(3)
    for draw, angle in ((0.0, -20.0), (0.5, 0.0), (0.75, 10.0)):
        ours = RandomRotation(20)(pixels, Fixed(3, [draw]), MEAN)
        assert torch.equal(ours, rotate(pixels, torch.full((3,), angle), MEAN))


def test_color_jitter_is_that_of_torchvision() -> None:
    pixels = photos(4)
    ours = ColorJitter(0.4, 0.3, 2.0)(pixels, Fixed(4, [0.25, 1.0, 0.5]), MEAN)
    theirs = reference.adjust_brightness(pixels, 0.8)
    theirs = reference.adjust_contrast(theirs, 1.3)
    theirs = reference.adjust_saturation(theirs, 1.5)
    assert difference(ours, theirs) <= 2  # each step rounds down


@pytest.mark.parametrize("draw", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_hue_is_changed_as_in_torchvision(draw: float) -> None:
    pixels = photos(4)
    pixels[0] = pixels[0, :1]  # gray
    ours = ColorJitter(0, 0, 0, hue=0.4)(pixels, Fixed(4, [0.0, 0.0, 0.0, draw]), MEAN)
    assert difference(ours, reference.adjust_hue(pixels, 0.4 * (2 * draw - 1))) <= 1
    assert torch.equal(ours[0], pixels[0])


OPERATIONS = ["identity", "shear x", "shear y", "shift x", "shift y", "rotate"]
OPERATIONS += ["brightness", "color", "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("identity", lambda pixels: pixels),
        ("shift x", lambda pixels: reference.affine(pixels, 0, [-16, 0], 1, [0, 0], fill=FILL)),
        ("shift y", lambda pixels: reference.affine(pixels, 0, [0, -16], 1, [0, 0], fill=FILL)),
        ("brightness", lambda pixels: reference.adjust_brightness(pixels, 1.495)),
        ("color", lambda pixels: reference.adjust_saturation(pixels, 1.495)),
        ("contrast", lambda pixels: reference.adjust_contrast(pixels, 1.495)),
        ("sharpness", lambda pixels: reference.adjust_sharpness(pixels, 1.495)),
        ("posterize", lambda pixels: reference.posterize(pixels, 5)),
        ("solarize", lambda pixels: reference.solarize(pixels, 127.5)),
        ("autocontrast", reference.autocontrast),
        ("equalize", reference.equalize),
    ],
)
def test_operations_of_trivial_augment_are_those_of_torchvision(name: str, expected: object) -> None:
    pixels = photos(2)
    # Draws: the strength (15 of 30), the sign (plus), the operation
    ours = TrivialAugment()(pixels, Fixed(2, [15, 1, OPERATIONS.index(name)]), MEAN)
    assert difference(ours, expected(pixels)) <= 1  # type: ignore[operator]


def test_each_image_gets_its_own_operation_whatever_the_batch() -> None:
    pixels = photos(60)
    for augmentation in (TrivialAugment(), RandAugment(2, 15), ColorJitter(), RandomRotation(), RandomResizedCrop()):
        whole = augmentation(pixels, SampleRandom(3, 1, torch.arange(60)), MEAN)
        assert whole.dtype == torch.uint8
        alone = augmentation(pixels[17:18], SampleRandom(3, 1, torch.tensor([17])), MEAN)
        assert difference(alone[0], whole[17]) <= 1
        changed = (whole != pixels).flatten(1).any(1).sum()
        assert changed > 40


def test_rand_augment_shifts_by_a_share_of_each_side() -> None:
    pixels = photos(2)  # 40x48
    shift_y = RandAugment(1, 30)(pixels, Fixed(2, [1, OPERATIONS.index("shift y")]), MEAN)
    down = torch.tensor([[1.0, 0, 0], [0, 1, 150 / 331 * 40]]).expand(2, 2, 3)
    assert torch.equal(shift_y, affine(pixels, down, MEAN))


def test_rand_augment_applies_several_operations() -> None:
    pixels = photos(2)
    brighter, again = OPERATIONS.index("brightness"), OPERATIONS.index("contrast")
    ours = RandAugment(2, 30)(pixels, Fixed(2, [0, brighter, 1, again]), MEAN)
    theirs = reference.adjust_contrast(reference.adjust_brightness(pixels, 0.1), 1.9)
    assert difference(ours, theirs) <= 2


@pytest.mark.parametrize(
    "build",
    [
        lambda: RandomResizedCrop(0),
        lambda: RandomResizedCrop(scale=(0.5, 0.2)),
        lambda: RandomResizedCrop(ratio=(0, 1)),
        lambda: RandomRotation(0),
        lambda: ColorJitter(contrast=-1),
        lambda: ColorJitter(hue=0.6),
        lambda: RandAugment(0),
        lambda: RandAugment(magnitude=31),
    ],
)
def test_impossible_arguments_are_refused(build: object) -> None:
    with pytest.raises(InputError, match="got"):
        build()  # type: ignore[operator]
