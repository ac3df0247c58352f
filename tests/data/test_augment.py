from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from cifar_lit.data.augment import (
    AlternatingFlip,
    Augmentation,
    Cutout,
    HorizontalFlip,
    ProgressiveResizing,
    RandomCrop,
)
from cifar_lit.data.digits import Digits
from cifar_lit.errors import InputError
from cifar_lit.randomness import SampleRandom
from tests.support.images import write_class_folders
from tests.support.program import ROOT, Outcome

MEAN = (0.5, 0.25, 0.75)
CROPS = [RandomCrop(2, mode) for mode in ("reflect", "edge", "black", "mean")]
AUGMENTATIONS = [*CROPS, HorizontalFlip(), AlternatingFlip(), Cutout(3)]


def pixels_and_random(count: int = 64) -> tuple[torch.Tensor, SampleRandom]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(1, 256, (count, 3, 8, 10), dtype=torch.uint8, generator=generator)
    return pixels, SampleRandom(0, 0, torch.arange(count))


def test_crop_is_a_window_of_the_padded_image_at_any_offset() -> None:
    pixels, random = pixels_and_random(400)
    cropped = RandomCrop(1, "black")(pixels, random, MEAN)
    padded = torch.nn.functional.pad(pixels, [1, 1, 1, 1])
    offsets = set()
    for image, source in zip(cropped, padded, strict=True):
        [offset] = [
            (top, left)
            for top in range(3)
            for left in range(3)
            if torch.equal(image, source[:, top : top + 8, left : left + 10])
        ]
        offsets.add(offset)
    assert len(offsets) == 9


def test_crop_can_pad_with_the_mean_color() -> None:
    pixels, random = pixels_and_random(400)
    pixels[:] = 7
    cropped = RandomCrop(1, "mean")(pixels, random, MEAN)
    colors = {tuple(color) for color in cropped.permute(0, 2, 3, 1).flatten(0, 2).tolist()}
    assert colors == {(7, 7, 7), (128, 64, 191)}


def test_alternating_flip_flips_each_image_in_every_other_epoch() -> None:
    pixels, _ = pixels_and_random(400)
    flipped = [AlternatingFlip()(pixels, SampleRandom(0, epoch, torch.arange(400)), MEAN) for epoch in range(4)]
    is_flipped = [(image == pixels.flip(-1)).flatten(1).all(1) for image in flipped]
    assert 150 < int(is_flipped[0].sum()) < 250
    assert bool((is_flipped[0] ^ is_flipped[1]).all())
    assert torch.equal(flipped[0], flipped[2])
    assert torch.equal(flipped[1], flipped[3])
    other_seed = AlternatingFlip()(pixels, SampleRandom(1, 0, torch.arange(400)), MEAN)
    assert not torch.equal(flipped[0], other_seed)


def test_progressive_resizing_resizes_only_in_the_listed_epochs() -> None:
    pixels = torch.arange(0, 256, 8, dtype=torch.uint8).expand(2, 3, 32, 32)  # a ramp from left to right
    resized = [
        ProgressiveResizing([16, 24, 32])(pixels, SampleRandom(0, epoch, torch.arange(2)), MEAN) for epoch in range(5)
    ]
    assert [tuple(image.shape[2:]) for image in resized] == [(16, 16), (24, 24), (32, 32), (32, 32), (32, 32)]
    assert all(image.dtype == torch.uint8 for image in resized)
    columns = resized[0][0, 0, 0].float()
    # Away from the edges, each column is the mean of two original ones
    torch.testing.assert_close(columns[2:-2], pixels[0, 0, 0].float().view(16, 2).mean(1)[2:-2], atol=1, rtol=0)


def test_progressive_resizing_keeps_the_aspect_ratio() -> None:
    pixels, random = pixels_and_random()  # 8x10
    pixels = pixels.repeat_interleave(3, 2).repeat_interleave(3, 3)
    assert ProgressiveResizing([12])(pixels, random, MEAN).shape == (64, 3, 12, 15)
    with pytest.raises(InputError, match=r"at most that of the images \(24x30\), got 25"):
        ProgressiveResizing([25])(pixels, random, MEAN)


def test_crop_refuses_reflection_padding_as_large_as_the_image() -> None:
    pixels, random = pixels_and_random()
    with pytest.raises(InputError, match="padding with mode reflect must be smaller"):
        RandomCrop(8)(pixels, random, MEAN)


@pytest.mark.parametrize("sizes", [[], [4, 32]])
def test_progressive_resizing_refuses_missing_or_tiny_sizes(sizes: list[int]) -> None:
    with pytest.raises(InputError, match="at least 8 pixels"):
        ProgressiveResizing(sizes)


def test_cutout_covers_one_square_with_the_mean_color() -> None:
    pixels, random = pixels_and_random()
    pixels[:] = 7
    covered = (Cutout(3)(pixels, random, MEAN) != 7).all(1)  # (N, H, W)
    assert bool((covered.sum((1, 2)) == 9).all())
    assert bool((covered.any(1).sum(1) == 3).all())
    image = Cutout(3)(pixels, SampleRandom(0, 0, torch.arange(64)), MEAN)[0]
    assert {tuple(color) for color in image.flatten(1).T.tolist()} == {(7, 7, 7), (128, 64, 191)}


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=lambda augmentation: type(augmentation).__name__)
def test_augmentation_does_not_depend_on_the_batch_and_keeps_its_input(augmentation: Augmentation) -> None:
    pixels, random = pixels_and_random()
    before = pixels.clone()
    together = augmentation(pixels, random, MEAN)
    alone = augmentation(pixels[40:41], SampleRandom(0, 0, torch.tensor([40])), MEAN)
    assert together.dtype == torch.uint8
    assert torch.equal(pixels, before)
    assert torch.equal(together[40:41], alone)
    assert not torch.equal(together, augmentation(pixels, SampleRandom(0, 1, torch.arange(64)), MEAN))


@pytest.mark.parametrize(
    "make",
    [lambda: RandomCrop(0), lambda: HorizontalFlip(1.5), lambda: Cutout(0), lambda: Cutout(2, p=-0.1)],
)
def test_invalid_settings_are_refused(make: type) -> None:
    with pytest.raises(InputError, match="must be"):
        make()


def test_cutout_larger_than_the_image_is_refused() -> None:
    pixels, random = pixels_and_random()
    with pytest.raises(InputError, match="must be at most that of the images"):
        Cutout(9)(pixels, random, MEAN)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=lambda augmentation: type(augmentation).__name__)
def test_augmentation_does_not_depend_on_the_memory_layout(augmentation: Augmentation) -> None:
    pixels, random = pixels_and_random()
    augmented = augmentation(pixels, random, MEAN)
    channels_last = pixels.contiguous(memory_format=torch.channels_last)
    strided = pixels.repeat_interleave(2, 0)[::2]
    slice_of_wider = torch.cat([pixels, pixels], 3)[..., :10]
    for view in (channels_last, strided, slice_of_wider):
        assert torch.equal(augmentation(view, pixels_and_random()[1], MEAN), augmented)


def test_flip_and_cutout_change_only_the_drawn_images_and_positions() -> None:
    pixels, random = pixels_and_random()
    chosen = pixels_and_random()[1].uniform() < 0.3
    expected = torch.where(chosen.view(-1, 1, 1, 1), pixels.flip(-1), pixels)
    assert torch.equal(HorizontalFlip(0.3)(pixels, random, MEAN), expected)

    _, random = pixels_and_random()
    chosen, tops, lefts = random.uniform() < 0.3, random.integers(0, 6), random.integers(0, 8)
    expected = pixels.clone()
    for image, top, left in zip(chosen.nonzero().flatten(), tops[chosen], lefts[chosen], strict=True):
        expected[image, :, top : top + 3, left : left + 3] = torch.tensor([128, 64, 191]).view(3, 1, 1)
    assert torch.equal(Cutout(3, 0.3)(pixels, pixels_and_random()[1], MEAN), expected)


class Brighter(Augmentation):
    """A user's augmentation that returns floats."""

    def __call__(self, pixels: torch.Tensor, random: SampleRandom, mean: Sequence[float]) -> torch.Tensor:
        return pixels * 1.1


def test_augmentation_that_returns_floats_is_named() -> None:
    data = Digits(augment=[Brighter(), HorizontalFlip()])
    batch = data.train_set.__getitems__([(0, 0), (0, 1)])
    with pytest.raises(InputError, match=r"Brighter must return .*got torch\.float32"):
        data.augmented(batch)


def test_network_too_deep_for_the_smallest_images_is_refused_before_training(
    program: Callable[..., Outcome],
) -> None:
    small = ["--data.augment", "[{class_path: ProgressiveResizing, init_args: {sizes: [8]}}]"]
    deep = ["--model.net", "{class_path: AirbenchNet, init_args: {widths: [8, 8, 8, 8]}}"]
    root = write_class_folders(Path("images"), train=20, size=(32, 32))
    data = ["--data", "ClassFolders", "--data.root", root]
    outcome = program("fit", "--config", ROOT / "configs" / "quickstart.yaml", *data, *small, *deep)
    assert outcome.status == 2
    assert "the network AirbenchNet cannot take images of 8x8" in outcome.err
