from tests.support.images import write_class_folders
from tests.support.program import ROOT
from tests.support.program import Outcome
from collections.abc import Callable, Sequence
from types import SimpleNamespace

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

MEAN = (0.5, 0.25, 0.75)
CROPS = [RandomCrop(2, mode) for mode in ("reflect", "edge", "black", "mean")]
AUGMENTATIONS = [*CROPS, HorizontalFlip(), AlternatingFlip(), Cutout(3)]


def pixels_and_random(count: int = 64) -> tuple[torch.Tensor, SampleRandom]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(1, 256, (count, 3, 8, 10), dtype=torch.uint8, generator=generator)
    return pixels, SampleRandom(0, 0, torch.arange(count))


def test_crop_is_a_window_of_the_padded_image_and_reaches_every_place() -> None:
    pixels, random = pixels_and_random(400)
    cropped = RandomCrop(1, "black")(pixels, random, MEAN)
    padded = torch.nn.functional.pad(pixels, [1, 1, 1, 1])
    places = set()
    for image, whole in zip(cropped, padded, strict=True):
        found = [
            (down, right)
            for down in range(3)
            for right in range(3)
            if torch.equal(image, whole[:, down : down + 8, right : right + 10])
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) == 9


def test_crop_can_add_the_mean_colour() -> None:
    pixels, random = pixels_and_random(400)
    pixels[:] = 7
    border = RandomCrop(1, "mean")(pixels, random, MEAN)
    colours = {tuple(colour) for colour in border.permute(0, 2, 3, 1).flatten(0, 2).tolist()}
    assert colours == {(7, 7, 7), (128, 64, 191)}


def test_alternating_flip_shows_each_image_both_ways_in_two_epochs() -> None:
    pixels, _ = pixels_and_random(400)
    shown = [AlternatingFlip()(pixels, SampleRandom(0, epoch, torch.arange(400)), MEAN) for epoch in range(4)]
    mirrored = [(image == pixels.flip(-1)).flatten(1).all(1) for image in shown]
    assert 150 < int(mirrored[0].sum()) < 250
    assert bool((mirrored[0] ^ mirrored[1]).all())
    assert torch.equal(shown[0], shown[2])
    assert torch.equal(shown[1], shown[3])
    other_seed = AlternatingFlip()(pixels, SampleRandom(1, 0, torch.arange(400)), MEAN)
    assert not torch.equal(shown[0], other_seed)


def test_progressive_resizing_shrinks_the_epochs_of_its_list() -> None:
    pixels = torch.arange(0, 256, 8, dtype=torch.uint8).expand(2, 3, 32, 32)  # a ramp from left to right
    sizes = [
        ProgressiveResizing([16, 24, 32])(pixels, SampleRandom(0, epoch, torch.arange(2)), MEAN) for epoch in range(5)
    ]
    assert [tuple(image.shape[2:]) for image in sizes] == [(16, 16), (24, 24), (32, 32), (32, 32), (32, 32)]
    assert all(image.dtype == torch.uint8 for image in sizes)
    columns = sizes[0][0, 0, 0].float()
    # in the middle, each of the 16 columns is as bright as the two that it stands for
    torch.testing.assert_close(columns[2:-2], pixels[0, 0, 0].float().view(16, 2).mean(1)[2:-2], atol=1, rtol=0)


def test_progressive_resizing_keeps_the_shape_of_images_that_are_no_squares() -> None:
    pixels, random = pixels_and_random()  # 8x10
    pixels = pixels.repeat_interleave(3, 2).repeat_interleave(3, 3)
    assert ProgressiveResizing([12])(pixels, random, MEAN).shape == (64, 3, 12, 15)
    with pytest.raises(InputError, match="above that of the images, 24x30"):
        ProgressiveResizing([25])(pixels, random, MEAN)


def test_crop_refuses_to_mirror_more_than_there_is() -> None:
    pixels, random = pixels_and_random()
    with pytest.raises(InputError, match="mirrors more than there is"):
        RandomCrop(8)(pixels, random, MEAN)


@pytest.mark.parametrize("sizes", [[], [4, 32]])
def test_progressive_resizing_refuses_sizes_that_no_network_takes(sizes: list[int]) -> None:
    with pytest.raises(InputError, match="8 and more pixels"):
        ProgressiveResizing(sizes)


def test_flip_mirrors_about_half_of_the_images_and_leaves_the_others() -> None:
    pixels, random = pixels_and_random(400)
    flipped = HorizontalFlip()(pixels, random, MEAN)
    mirrored = (flipped == pixels.flip(-1)).flatten(1).all(1)
    unchanged = (flipped == pixels).flatten(1).all(1)
    assert bool((mirrored ^ unchanged).all())
    assert 150 < int(mirrored.sum()) < 250


def test_cutout_covers_one_square_with_the_mean_colour() -> None:
    pixels, random = pixels_and_random()
    pixels[:] = 7
    covered = (Cutout(3)(pixels, random, MEAN) != 7).all(1)  # (N, H, W)
    assert bool((covered.sum((1, 2)) == 9).all())
    assert bool((covered.any(1).sum(1) == 3).all())
    image = Cutout(3)(pixels, SampleRandom(0, 0, torch.arange(64)), MEAN)[0]
    assert {tuple(colour) for colour in image.flatten(1).T.tolist()} == {(7, 7, 7), (128, 64, 191)}


def test_cutout_leaves_images_out_by_its_probability() -> None:
    pixels, random = pixels_and_random(1000)
    changed = (Cutout(3, p=0.2)(pixels, random, MEAN) != pixels).flatten(1).any(1)
    assert 150 < int(changed.sum()) < 250


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=lambda augmentation: type(augmentation).__name__)
def test_a_sample_is_augmented_alike_in_any_batch_and_the_input_is_left_alone(augmentation: Augmentation) -> None:
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
def test_settings_that_make_no_sense_are_refused(make: type) -> None:
    with pytest.raises(InputError, match="must be"):
        make()


def test_cutout_larger_than_the_image_is_refused() -> None:
    pixels, random = pixels_and_random()
    with pytest.raises(InputError, match="larger than the images"):
        Cutout(9)(pixels, random, MEAN)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=lambda augmentation: type(augmentation).__name__)
def test_an_augmentation_gives_the_same_however_the_images_lie_in_memory(augmentation: Augmentation) -> None:
    pixels, random = pixels_and_random()
    augmented = augmentation(pixels, random, MEAN)
    channels_last = pixels.contiguous(memory_format=torch.channels_last)
    every_second = pixels.repeat_interleave(2, 0)[::2]
    part_of_wider = torch.cat([pixels, pixels], 3)[..., :10]
    for same in (channels_last, every_second, part_of_wider):
        assert torch.equal(augmentation(same, pixels_and_random()[1], MEAN), augmented)


def test_flips_and_cutout_change_the_images_and_places_that_chance_chose_and_nothing_else() -> None:
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
    """A user's own, that forgets to give bytes."""

    def __call__(self, pixels: torch.Tensor, random: SampleRandom, mean: Sequence[float]) -> torch.Tensor:
        return pixels * 1.1


def test_an_augmentation_that_gives_no_bytes_is_named() -> None:
    data = Digits(augment=[Brighter(), HorizontalFlip()])
    data.trainer = SimpleNamespace(training=True, current_epoch=0)  # type: ignore[assignment]
    batch = data.train_set.__getitems__([(0, 0), (0, 1)])
    with pytest.raises(InputError, match=r"Brighter returned torch.float32, not torch.uint8"):
        data.on_after_batch_transfer(batch, 0)


def test_a_network_that_cannot_take_the_smallest_images_is_refused_before_training(
    program: Callable[..., Outcome],
) -> None:
    small = ["--data.augment", "[{class_path: ProgressiveResizing, init_args: {sizes: [8]}}]"]
    deep = ["--model.net", "{class_path: AirbenchNet, init_args: {widths: [8, 8, 8, 8]}}"]
    root = write_class_folders(Path("images"), train=20, size=(32, 32))
    data = ["--data", "ClassFolders", "--data.root", root]
    outcome = program("fit", "--config", ROOT / "configs" / "quickstart.yaml", *data, *small, *deep)
    assert outcome.status == 2
    assert "the network AirbenchNet cannot take images of 8x8" in outcome.err
