"""Files that a stranger may upload: broken, huge, odd, or no images at all."""

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP")
_NAMES = (
    "a.png",
    "../../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "/etc/passwd",
    "a\x00.png",
    "<img src=x onerror=alert(1)>.png",
    "\u202egnp.exe",
    "CON.png",
    "a" * 300 + ".png",
    ".",
    "",
    "%2e%2e%2fapp.py",
    "file:///etc/passwd",
    "a;rm -rf ~;.png",
    "ünï©ødé 图.png",
    "app.py",
)


@dataclass(frozen=True)
class Upload:
    """A file.

    kind: What is wrong with it.
    name: What it is called.
    content: Its bytes.
    whole: Whether it is an image that has to be classified; None if either is right.
    """

    kind: str
    name: str
    content: bytes
    whole: bool | None


def uploads(count: int, seed: int = 0) -> Iterator[Upload]:
    """So many files, all kinds in turn."""
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        kind = _KINDS[number % len(_KINDS)]
        content, whole = kind(chance)
        name = chance.choice(_NAMES) if chance.random() < 0.5 else f"image{chance.choice(['.png', '.jpg', '.gif', ''])}"
        yield Upload(kind.__name__.strip("_").replace("_", " "), name, content, whole)


def bombs() -> Iterator[Upload]:
    """Small files that are enormous when they are decoded."""
    for side in (4_000, 20_000, 65_000):
        yield Upload(f"PNG of {side} x {side}", "bomb.png", _png(side, side), None)
    yield Upload("PNG of 1 x 16,000,000", "bomb.png", _png(1, 16_000_000), None)
    for form, side in (("GIF", 16_000), ("WEBP", 16_000), ("JPEG", 16_000)):
        content = io.BytesIO()
        Image.new("L", (side, side)).save(content, form)
        yield Upload(f"{form} of {side} x {side}", f"bomb.{form.lower()}", content.getvalue(), None)
    frames = [Image.new("P", (2000, 2000), shade) for shade in range(200)]
    content = io.BytesIO()
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:])
    yield Upload("GIF of 200 frames", "bomb.gif", content.getvalue(), None)
    text = zlib.compress(b"A" * 500_000_000, 9)
    yield Upload("PNG with a text of 500 MB", "bomb.png", _png(8, 8, [(b"zTXt", b"Comment\0\0" + text)]), None)
    profile = zlib.compress(b"\0" * 500_000_000, 9)
    yield Upload("PNG with a profile of 500 MB", "bomb.png", _png(8, 8, [(b"iCCP", b"p\0\0" + profile)]), None)


def picture(chance: random.Random, width: int = 0, height: int = 0, mode: str = "RGB") -> Image.Image:
    """An image of noise."""
    width, height = width or chance.randint(1, 80), height or chance.randint(1, 80)
    bands = len(Image.new(mode, (1, 1)).getbands())
    noise = np.random.default_rng(chance.randrange(2**32)).integers(0, 256, (height, width, bands), dtype=np.uint8)
    return Image.frombytes(mode, (width, height), noise.tobytes())


def _encoded(image: Image.Image, form: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, form, **options)  # type: ignore[arg-type]
    return content.getvalue()


def _png(width: int, height: int, chunks: list[tuple[bytes, bytes]] | None = None) -> bytes:
    """A grey PNG, all black, made without the memory that it takes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    rows = bytes(1 + width)
    body = b"".join(packer.compress(rows) for _ in range(min(height, 70_000))) + packer.flush()
    extra = b"".join(chunk(*part) for part in chunks or [])
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


# Each gives the bytes, and whether they are an image that has to be classified


def _truncated(chance: random.Random) -> tuple[bytes, bool | None]:
    content = _encoded(picture(chance), chance.choice(_FORMATS))
    return content[: chance.randrange(len(content))], None


def _damaged(chance: random.Random) -> tuple[bytes, bool | None]:
    content = bytearray(_encoded(picture(chance), chance.choice(_FORMATS)))
    for _ in range(chance.randint(1, 20)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    return bytes(content), None


def _random_bytes(chance: random.Random) -> tuple[bytes, bool | None]:
    return chance.randbytes(chance.randrange(5000)), False


def _random_bytes_after_a_signature(chance: random.Random) -> tuple[bytes, bool | None]:
    signature = chance.choice([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"BM"])
    return signature + chance.randbytes(chance.randrange(500)), None


def _huge_header(chance: random.Random) -> tuple[bytes, bool | None]:
    content = bytearray(_png(4, 4))
    content[16:24] = struct.pack(">II", chance.choice([2**31 - 1, 10**6, 5001]), chance.choice([2**31 - 1, 10**6]))
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content), False


def _odd_shape(chance: random.Random) -> tuple[bytes, bool | None]:
    width, height = chance.choice([(1, 1), (1, 10_000), (10_000, 1), (2, 3), (3000, 2)])
    return _encoded(picture(chance, width, height), chance.choice(["PNG", "JPEG", "BMP"])), True


def _odd_colours(chance: random.Random) -> tuple[bytes, bool | None]:
    mode, form = chance.choice([("CMYK", "JPEG"), ("L", "PNG"), ("LA", "PNG"), ("RGBA", "PNG"), ("RGBA", "WEBP")])
    return _encoded(picture(chance, mode=mode), form), True


def _sixteen_bits(chance: random.Random) -> tuple[bytes, bool | None]:
    grey = np.random.default_rng(chance.randrange(2**32)).integers(0, 65536, (9, 7), dtype=np.uint16)
    return _encoded(Image.fromarray(grey), "PNG"), True


def _palette(chance: random.Random) -> tuple[bytes, bool | None]:
    options = {"transparency": chance.randrange(8)} if chance.random() < 0.5 else {}
    return _encoded(picture(chance).quantize(8), chance.choice(["PNG", "GIF"]), **options), True


def _animated(chance: random.Random) -> tuple[bytes, bool | None]:
    frames = [picture(chance, 20, 20) for _ in range(4)]
    form = chance.choice(["GIF", "WEBP", "PNG"])
    return _encoded(frames[0], form, save_all=True, append_images=frames[1:]), True


def _exif(chance: random.Random) -> tuple[bytes, bool | None]:
    exif = Image.Exif()
    exif[0x0112] = chance.choice([0, 1, 3, 6, 8, 9, 65535])
    exif[0x010E] = "A" * chance.choice([1, 10_000, 60_000])
    return _encoded(picture(chance), "JPEG", exif=exif), True


def _broken_exif(chance: random.Random) -> tuple[bytes, bool | None]:
    header = chance.choice([b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff"])
    block = header + chance.randbytes(chance.randrange(2000))
    content = _encoded(picture(chance), "JPEG")
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + content[2:], None


def _other_files(chance: random.Random) -> tuple[bytes, bool | None]:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><image href="file:///etc/passwd"/></svg>'
    page = b"<html><script>alert(document.domain)</script></html>"
    archive = b"PK\x03\x04" + zlib.compress(bytes(100_000))
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\nsystem\n"
    other = [svg, page, archive, script, b"%PDF-1.7\n", b"", b"\0" * 1000, b"P6 99999 99999 255\n", b"II*\0\x08\0\0\0"]
    return chance.choice(other), False


_KINDS: list[Callable[[random.Random], tuple[bytes, bool | None]]] = [
    _truncated,
    _damaged,
    _random_bytes,
    _random_bytes_after_a_signature,
    _huge_header,
    _odd_shape,
    _odd_colours,
    _sixteen_bits,
    _palette,
    _animated,
    _exif,
    _broken_exif,
    _other_files,
]
