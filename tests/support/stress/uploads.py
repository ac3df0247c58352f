"""Malformed uploads: files that are broken, huge, odd or not images at all."""

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA")
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
    """A file to upload.

    kind: What is wrong with it.
    name: File name.
    content: The bytes.
    valid: Whether the file must be classified (True) or refused (False); None if either is correct.
    """

    kind: str
    name: str
    content: bytes
    valid: bool | None


def uploads(count: int, seed: int = 0) -> Iterator[Upload]:
    """Yield ``count`` files, cycling through all kinds."""
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        kind = _KINDS[number % len(_KINDS)]
        content, valid = kind(chance)
        name = chance.choice(_NAMES) if chance.random() < 0.5 else f"image{chance.choice(['.png', '.jpg', '.gif', ''])}"
        yield Upload(kind.__name__.strip("_").replace("_", " "), name, content, valid)


def truncations() -> Iterator[Upload]:
    """Yield a small image of each format, cut at every byte."""
    chance = random.Random(0)
    for form in _FORMATS:
        content = _encoded(picture(chance, 6, 5), form)
        for length in range(len(content)):
            yield Upload(f"{form} cut to {length} bytes", f"cut.{form.lower()}", content[:length], None)


def bombs() -> Iterator[Upload]:
    """Yield small files that are enormous when decoded."""
    for side in (4_000, 20_000):
        yield Upload(f"PNG of {side} x {side}", "bomb.png", _png(side, side), None)
    yield Upload("PNG of 1 x 16,000,000", "bomb.png", _png(1, 16_000_000), None)
    for form, mode, side in (
        ("GIF", "L", 16_000),
        ("JPEG", "L", 16_000),
        ("PNG", "RGBA", 4_000),
        ("WEBP", "RGBA", 4_000),
    ):
        content = _encoded(Image.new(mode, (side, side)), form)
        yield Upload(f"{form} of {side} x {side}, {mode}", f"bomb.{form.lower()}", content, None)
    yield Upload("BMP whose runs skip 4 GB", "bomb.bmp", _skipping_bmp(), None)
    yield Upload("JPEG with 4,000 tags of the same 60,000 bytes", "bomb.jpg", _tagged_jpeg(), None)
    yield Upload("JPEG of 20,000 scans", "bomb.jpg", _scanned_jpeg(), None)
    yield Upload("GIF of 200 frames", "bomb.gif", _long_gif(), None)
    text = zlib.compress(b"A" * 500_000_000, 9)
    yield Upload("PNG with a text of 500 MB", "bomb.png", _png(8, 8, [(b"zTXt", b"Comment\0\0" + text)]), None)
    profile = zlib.compress(b"\0" * 500_000_000, 9)
    yield Upload("PNG with a profile of 500 MB", "bomb.png", _png(8, 8, [(b"iCCP", b"p\0\0" + profile)]), None)


def picture(chance: random.Random, width: int = 0, height: int = 0, mode: str = "RGB") -> Image.Image:
    """Return an image of noise, of random size by default."""
    width, height = width or chance.randint(1, 80), height or chance.randint(1, 80)
    bands = len(Image.new(mode, (1, 1)).getbands())
    noise = np.random.default_rng(chance.randrange(2**32)).integers(0, 256, (height, width, bands), dtype=np.uint8)
    return Image.frombytes(mode, (width, height), noise.tobytes())


def _encoded(image: Image.Image, form: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, form, **options)  # type: ignore[arg-type]
    return content.getvalue()


def _png(width: int, height: int, chunks: list[tuple[bytes, bytes]] | None = None) -> bytes:
    """Return an all-black gray PNG, without allocating its pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer, total = zlib.compressobj(1), (1 + width) * height
    block = bytes(min(total, 10_000_000))
    body = b"".join(packer.compress(block) for _ in range(-(-total // len(block)))) + packer.flush()
    extra = b"".join(chunk(kind, content) for kind, content in chunks or [])
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _long_gif() -> bytes:
    """Return a GIF that repeats a frame of 2,000 x 2,000 pixels 200 times."""
    single = _encoded(Image.new("P", (2000, 2000)), "GIF")
    start = 13 + 3 * 2 ** ((single[10] & 7) + 1)  # after the header and the palette
    return single[:start] + single[start:-1] * 200 + b";"


def _skipping_bmp() -> bytes:
    """Return a BMP of RLE8 runs, one of which skips 255 rows of 16 million pixels."""
    data = b"\x00\x02\xff\xff\x00\x01"
    offset = 14 + 40 + 1024
    header = struct.pack("<IiiHHIIiiII", 40, 16_000_000, 1, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset) + header + bytes(1024) + data


def _tagged_jpeg() -> bytes:
    """Return a JPEG with thousands of EXIF tags that all point to the same long value."""
    tags, numbers = 4_000, 7_000
    entries = b"".join(struct.pack("<HHII", 0x8000 + tag, 3, numbers, 8 + 2 + 12 * tags + 4) for tag in range(tags))
    block = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", tags) + entries + bytes(4)
    block = (block + bytes(65_000))[:65_000]
    content = _encoded(Image.new("RGB", (8, 8)), "JPEG")
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + content[2:]


def _scanned_jpeg() -> bytes:
    """Return a large progressive JPEG that repeats its last scan thousands of times."""
    content = _encoded(Image.new("L", (4_000, 4_000)), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    scan = content[last : last + 2 + int.from_bytes(content[last + 2 : last + 4], "big")] + b"\x00\x00"
    return content[:last] + scan * 20_000 + b"\xff\xd9"


# Each returns the bytes and the value of ``Upload.valid``


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


def _odd_colors(chance: random.Random) -> tuple[bytes, bool | None]:
    mode, form = chance.choice([("CMYK", "JPEG"), ("L", "PNG"), ("LA", "PNG"), ("RGBA", "PNG"), ("RGBA", "WEBP")])
    return _encoded(picture(chance, mode=mode), form), True


def _sixteen_bits(chance: random.Random) -> tuple[bytes, bool | None]:
    gray = np.random.default_rng(chance.randrange(2**32)).integers(0, 65536, (9, 7), dtype=np.uint16)
    return _encoded(Image.fromarray(gray), "PNG"), True


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
    _odd_colors,
    _sixteen_bits,
    _palette,
    _animated,
    _exif,
    _broken_exif,
    _other_files,
]
