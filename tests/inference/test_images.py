"""Reading image files of any kind."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_lit.errors import InputError
from cifar_lit.inference.images import image_files, read_image


def test_pixels_of_a_png_are_read_unchanged() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("image.png")
    assert np.array_equal(read_image(Path("image.png")), pixels)
    assert np.array_equal(read_image(Path("image.png"), (5, 7)), pixels)


def test_exif_orientation_is_applied() -> None:
    pixels = np.zeros((16, 32, 3), dtype=np.uint8)
    pixels[:, :16] = 255  # the left half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # the left edge is the top
    Image.fromarray(pixels).save("photo.jpg", exif=exif, quality=100)
    upright = read_image(Path("photo.jpg"))
    assert upright.shape == (32, 16, 3)
    assert upright[:14].min() > 200
    assert upright[18:].max() < 50


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "LA"])
def test_every_mode_is_converted_to_rgb(mode: str) -> None:
    file = Path("image.tif" if mode == "CMYK" else "image.png")
    Image.new("RGB", (4, 4), "white").convert(mode).save(file)
    assert (read_image(file) == 255).all()


def test_16_bit_values_are_scaled_not_clipped() -> None:
    Image.fromarray(np.array([[0, 0x4000, 0xFFFF]], dtype=np.uint16)).save("deep.png")
    assert read_image(Path("deep.png"))[0, :, 0].tolist() == [0, 64, 255]


def test_transparency_is_composited_on_white() -> None:
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save("clear.png")
    assert (read_image(Path("clear.png")) == 255).all()


def test_other_sizes_are_scaled_and_center_cropped() -> None:
    pixels = np.zeros((8, 16, 3), dtype=np.uint8)
    pixels[:, 4:12] = 255  # the central square
    Image.fromarray(pixels).save("wide.png")
    assert (read_image(Path("wide.png"), (8, 8)) == 255).all()
    assert read_image(Path("wide.png"), (4, 4)).shape == (4, 4, 3)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n truncated"])
def test_an_unreadable_file_is_an_error_with_its_name(content: bytes) -> None:
    Path("broken.png").write_bytes(content)
    with pytest.raises(InputError, match=r"^broken\.png cannot be read as an image \([^']*\)$"):
        read_image(Path("broken.png"))


def test_a_truncated_image_is_an_error() -> None:
    Image.effect_noise((64, 64), 50).save("intact.jpg")
    Path("half.jpg").write_bytes(Path("intact.jpg").read_bytes()[:800])
    with pytest.raises(InputError, match=r"half\.jpg"):
        read_image(Path("half.jpg"))


def test_hidden_and_other_files_are_ignored() -> None:
    for name in ("b.PNG", "a.jpg", ".hidden.png", "notes.txt", ".git/c.png", "deep/er/d.webp"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    assert [str(path) for path in image_files(Path())] == ["a.jpg", "b.PNG", "deep/er/d.webp"]
