"""Reading image files of any kind."""

import struct
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cifar_lit.errors import InputError
from cifar_lit.inference.images import Resizing, describe_left_out, image_files, read_image


def test_pixels_of_a_png_are_read_unchanged() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("image.png")
    assert np.array_equal(read_image(Path("image.png")), pixels)
    assert np.array_equal(read_image(Path("image.png"), Resizing((5, 7))), pixels)


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


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 100, 255]], dtype=np.uint16), [0, 100, 255]),
        (np.array([[0, 100, 255]], dtype=np.int32), [0, 100, 255]),
        (np.array([[0, 2048, 4095]], dtype=np.uint16), [0, 128, 255]),
        (np.array([[0, 4096, 65535]], dtype=np.int32), [0, 16, 255]),
        (np.array([[0, 0.5, 1]], dtype=np.float32), [0, 128, 255]),
        (np.array([[0, 100, 255]], dtype=np.float32), [0, 100, 255]),
        (np.zeros((1, 3), dtype=np.float32), [0, 0, 0]),
    ],
)
def test_values_are_scaled_by_the_range_that_they_use(values: np.ndarray, expected: list[int]) -> None:
    Image.fromarray(values).save("deep.tif")
    assert read_image(Path("deep.tif"))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("values", [[[-1000, 0, 400]], [[0, 0, 70000]], [[0, float("nan"), 1]]])
def test_values_without_a_known_range_are_refused(values: Any) -> None:
    Image.fromarray(np.array(values, dtype=np.float32)).save("deep.tif")
    with pytest.raises(InputError, match=r"its values go from \S+ to \S+; scale them to 0 to 255"):
        read_image(Path("deep.tif"))


def test_colors_of_16_bits_that_use_12_are_refused() -> None:
    # PIL cannot write such files: signature, header for 1x1 pixel, the pixel, end
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for high, is_dark in ((4095, True), (65535, False)):
        pixel = zlib.compress(b"\0" + struct.pack(">3H", high, 0, 0))
        header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
        chunks = [chunk(b"IHDR", header), chunk(b"IDAT", pixel), chunk(b"IEND", b"")]
        Path("deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
        if is_dark:
            with pytest.raises(InputError, match="16-bit colors are all below 4096"):
                read_image(Path("deep.png"))
        else:
            assert read_image(Path("deep.png")).tolist() == [[[255, 0, 0]]]


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "JPG", "avif", "tif", "webp", "pgm", "jp2", "tga"])
def test_files_are_found_by_every_common_suffix(suffix: str) -> None:
    name = f"image.{suffix}"
    Image.new("L", (4, 4), 255).save(name, format="JPEG" if suffix in ("jfif", "jpe") else None)
    assert list(image_files(Path())) == [Path(name)]
    assert read_image(Path(name)).min() > 250


def test_transparency_is_composited_on_white() -> None:
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save("clear.png")
    assert (read_image(Path("clear.png")) == 255).all()


def test_other_sizes_are_scaled_and_center_cropped() -> None:
    pixels = np.zeros((8, 16, 3), dtype=np.uint8)
    pixels[:, 4:12] = 255  # the central square
    Image.fromarray(pixels).save("wide.png")
    assert (read_image(Path("wide.png"), Resizing((8, 8))) == 255).all()
    assert read_image(Path("wide.png"), Resizing((4, 4))).shape == (4, 4, 3)


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


def test_folders_that_link_to_each_other_are_read_once() -> None:
    for name, other in (("a", "b"), ("b", "a")):
        Path(name).mkdir()
        Path(name, f"{name}.png").touch()
        Path(name, other).symlink_to(Path(other).absolute())
    left_out = Counter[str]()
    found = [str(path) for path in image_files(Path("a"), left_out)]
    assert (found, left_out) == (["a/a.png", "a/b/b.png"], {"a/": 1})


def test_hidden_system_and_other_files_are_left_out_and_counted() -> None:
    images = ("b.PNG", "a.jpg", "deep/er/d.webp", "deep/@eaDir/d.png", ".git/c.png", ".hidden.png")
    for name in (*images, "notes.txt", "LICENSE", "1.heic", "2.HEIC"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    Path("deep/loop").symlink_to(Path.cwd())
    left_out = Counter[str]()
    assert [str(path) for path in image_files(Path(), left_out)] == ["a.jpg", "b.PNG", "deep/er/d.webp"]
    folders = {".git/": 1, "@eaDir/": 1, "loop/": 1}
    assert left_out == {".txt": 1, ".heic": 2, "without suffix": 1, **folders}
    assert describe_left_out(Path("photos"), left_out).startswith("4 files left out of photos: .heic 2, ")
