"""Broken image files, and rare but valid ones, which a careless check would refuse."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from random import Random

import numpy as np
from PIL import Image

from tests.pictures import encoded, photo

Size = tuple[int, int]

_ORIENTATION = 0x0112


@cache
def pictures() -> Mapping[bytes, Size]:
    """Valid files of every kind, with their upright (width, height)."""
    image = photo(120, 90)
    grey = image.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    clear = image.copy()
    clear.putalpha(grey)
    moving = _moving()
    found = dict.fromkeys(
        (
            encoded(image),
            encoded(image, progressive=True),
            encoded(image, subsampling=0, optimize=True),
            encoded(grey),
            encoded(image.convert("CMYK")),
            encoded(image, "PNG"),
            encoded(grey, "PNG"),
            encoded(deep, "PNG"),
            encoded(clear, "PNG"),
            encoded(image.convert("1"), "PNG"),
            encoded(image.quantize(16), "PNG"),
            encoded(image, "PNG", **moving),
            _bombed(encoded(image, "PNG")),
            encoded(image, "WEBP"),
            encoded(clear, "WEBP", lossless=True),
            encoded(image, "WEBP", **moving),
            encoded(image, "BMP"),
            encoded(image.quantize(64), "BMP"),
            encoded(image, "TIFF"),
            encoded(image, "TIFF", compression="tiff_lzw"),
            encoded(image, "TIFF", compression="tiff_deflate"),
            encoded(image.convert("CMYK"), "TIFF"),
            _pages(),
        ),
        image.size,
    )
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[_ORIENTATION] = turn
        found[encoded(image, exif=exif.tobytes())] = image.size if turn < 5 else image.size[::-1]
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF"):
        found[_dot(kind)] = (1, 1)
    return found


def _moving() -> dict[str, object]:
    """The options with which Pillow writes more than one frame."""
    return {"save_all": True, "append_images": [photo(120, 90, seed=1), photo(120, 90, seed=2)]}


@cache
def _dot(kind: str) -> bytes:
    return encoded(photo(1, 1), kind)


@cache
def _pages() -> bytes:
    return encoded(photo(120, 90), "TIFF", **_moving())


def any_picture(rng: Random) -> bytes:
    """One of them."""
    return rng.choice(list(pictures()))


_IEND = bytes.fromhex("0000000049454e44ae426082")


def truncated(rng: Random) -> bytes:
    """The beginning of a valid file: from no bytes to all but one.

    Not of the TIFF with pages, of which the first may be whole, nor of the BMP of one pixel, which ends in padding. A
    PNG loses more than its last chunk, IEND: without that alone it has all of its pixels, and is read.
    """
    data = rng.choice([file for file in pictures() if file not in (_pages(), _dot("BMP"))])
    return data[: rng.randrange(len(data.removesuffix(_IEND)))]


def mutated(rng: Random) -> bytes:
    """A file with some bytes changed, removed or inserted, mostly in the header, where the effect is largest."""
    data = bytearray(any_picture(rng))
    for _ in range(rng.randint(1, 8)):
        at = int(len(data) * rng.random() ** 3)
        match rng.randrange(3):
            case 0 if data:
                data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 1:
                del data[at : at + rng.randint(1, 40)]
            case _:
                data[at:at] = rng.randbytes(rng.randint(1, 40))
    return bytes(data)


_MAGIC = (b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF\x10\0\0\0WEBPVP8 ", b"BM", b"II*\0", b"MM\0*")


def random_bytes(rng: Random) -> bytes:
    """Noise, often after the first bytes of a real format."""
    return rng.choice(_MAGIC) + rng.randbytes(rng.randrange(3000))


_STRANGERS = (
    b"GIF89a\x01\0\x01\0\0\0\0;", b"%PDF-1.7\n%", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<!doctype html>",
    b"\0\0\0\x18ftypmp42", b"\0\0\0\x18ftypheic", b"\0\0\0\x1cftypavif", b"PK\3\4", b"\x7fELF\2\1\1", b"hello",
    b"\x1f\x8b\x08", b"RIFF\x24\0\0\0WAVEfmt ", b"\0\0\1\0\1\0", b"8BPS\0\1", b"\0" * 64, b"https://example.com/a.jpg",
)  # fmt: skip


def stranger(rng: Random) -> bytes:
    """A file of another type."""
    return rng.choice(_STRANGERS) + rng.randbytes(rng.randrange(200))


def huge(rng: Random) -> bytes:
    """A few bytes that declare more pixels than any server can hold."""
    width, height = rng.choice(((20_000, 20_000), (65_535, 65_535), (65_535, 1_000), (16_383, 16_383)))
    forms: tuple[Callable[[int, int], bytes], ...] = (_huge_png, _huge_jpeg, _huge_bmp, _huge_tiff)
    return rng.choice(forms)(width, height)


def _huge_png(width: int, height: int) -> bytes:
    return _png(width, height, _zeros()[:50_000])


def _huge_jpeg(width: int, height: int) -> bytes:
    data = bytearray(encoded(photo(32, 32)))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _huge_bmp(width: int, height: int) -> bytes:
    data = bytearray(encoded(photo(32, 32), "BMP"))
    data[18:26] = struct.pack("<ii", width, -height)
    return bytes(data)


def _huge_tiff(width: int, height: int) -> bytes:
    return _tiff({256: (4, 1, width), 257: (4, 1, height), 273: (4, 1, 8), 279: (4, 1, 8)})


def bomb(rng: Random) -> bytes:
    """A PNG with many pixels, and data for hardly any of them."""
    return _png(5_000, 5_000, zlib.compress(bytes(rng.randrange(1_000))))


def silly_tiff(rng: Random) -> bytes:
    """A TIFF with absurd types, counts and values in its tags, and a directory that may point to itself."""
    tags = {256: (4, 1, 32), 257: (4, 1, 32), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, 8)}
    tags[279] = (4, 1, 8)
    for number in rng.sample(sorted(tags), rng.randint(1, 3)):
        kind, count, value = tags[number]
        wild = rng.choice((0, 7, 16, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF))
        tags[number] = rng.choice(((rng.randrange(20), count, value), (kind, wild, value), (kind, count, wild)))
    return _tiff(tags, after=rng.choice((0, 16, 0xFFFFFFF0)))


def _tiff(tags: Mapping[int, tuple[int, int, int]], after: int = 0) -> bytes:
    """A TIFF with eight bytes of pixels. tags: (type, count, value) by number. after: offset of the next directory."""
    rows = b"".join(struct.pack("<HHII", number, *tag) for number, tag in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 16) + bytes(8) + struct.pack("<H", len(tags)) + rows + struct.pack("<I", after)


def _png(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG with these deflated pixels, whatever its header says."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _bombed(png: bytes) -> bytes:
    """The picture with a text, a profile and a comment that unpack to 100 MB each."""
    bombs = (
        _chunk(b"zTXt", b"Comment\0\0" + _zeros()),
        _chunk(b"iCCP", b"profile\0\0" + _zeros()),
        _chunk(b"iTXt", b"a\0\1\0\0\0" + _zeros()),
    )
    after_header = 33
    return png[:after_header] + b"".join(bombs) + png[after_header:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@cache
def _zeros() -> bytes:
    return zlib.compress(bytes(100_000_000), 9)
