import pytest
import torch

from cifar_lit.data.augment import Augmentation, Cutout, HorizontalFlip, RandomCrop
from cifar_lit.errors import InputError
from cifar_lit.randomness import SampleRandom

MEAN = (0.5, 0.25, 0.75)
AUGMENTATIONS = [RandomCrop(2), RandomCrop(2, "edge"), RandomCrop(2, "black"), HorizontalFlip(), Cutout(3)]


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
