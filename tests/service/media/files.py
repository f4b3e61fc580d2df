"""A test image in every accepted kind of file."""

from __future__ import annotations

import functools
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from service.media import decode as decoding
from service.media.decode import DecodedImage, ImageLimits
from service.media.decoder_pool import DecoderPool
from service.media.decoder_process import Bounds
from tests.pictures import encoded, photo

LIMITS = ImageLimits(max_bytes=1_000_000, max_pixels=1_000_000, max_side=2000)
WIDTH, HEIGHT = 101, 63  # odd, so that blocks, rows and bytes are not aligned


@functools.cache
def pool() -> DecoderPool:
    """The decoder processes of all tests, which are closed at the end of the session."""
    return DecoderPool(2, Bounds())


def decode(data: bytes | memoryview, limits: ImageLimits, needs: tuple[int, int] | None = None) -> DecodedImage:
    """As `service.media.decode.decode`, with the shared decoder processes."""
    return decoding.decode(data, limits, needs=needs, pool=pool())


def smooth(width: int, height: int) -> Image.Image:
    """A photograph without grain, which lossy files reproduce well."""
    return photo(width, height).filter(ImageFilter.GaussianBlur(2))


@functools.cache
def picture() -> Image.Image:
    return smooth(WIDTH, HEIGHT)


def rgb(image: Image.Image | None = None) -> NDArray[np.int_]:
    """The pixels as integers that can be subtracted."""
    return np.asarray((image or picture()).convert("RGB")).astype(int)


@functools.cache
def grey_16() -> Image.Image:
    return Image.fromarray(np.asarray(picture().convert("L")).astype(np.uint16) * 257)


@functools.cache
def files() -> dict[str, tuple[bytes, Image.Image, float]]:
    """By name: the file, its picture, and the largest mean difference of pixels."""
    image = picture()
    grey, palette, bilevel = image.convert("L"), image.quantize(32), image.convert("1")
    pages = {"save_all": True, "append_images": [image.rotate(180)]}
    tiffs = {
        f"TIFF {kind}": (encoded(image, "TIFF", compression=kind), image, 0.0)
        for kind in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd")
    }
    return {
        "JPEG": (encoded(image, quality=92), image, 4.0),
        "JPEG progressive": (encoded(image, quality=92, progressive=True), image, 4.0),
        "JPEG grey": (encoded(grey, quality=92), grey, 2.0),
        "JPEG CMYK": (encoded(image.convert("CMYK"), quality=95), image, 4.0),
        "JPEG RGB": (encoded(image, quality=92, keep_rgb=True), image, 4.0),
        "PNG": (encoded(image, "PNG"), image, 0.0),
        "PNG grey": (encoded(grey, "PNG"), grey, 0.0),
        "PNG 16 bit": (encoded(grey_16(), "PNG"), grey, 0.0),
        "PNG palette": (encoded(palette, "PNG"), palette, 0.0),
        "PNG bilevel": (encoded(bilevel, "PNG"), bilevel, 0.0),
        "PNG animated": (encoded(image, "PNG", **pages), image, 0.0),
        "WebP": (encoded(image, "WEBP", quality=92), image, 4.0),
        "WebP lossless": (encoded(image, "WEBP", lossless=True), image, 0.0),
        "WebP animated": (encoded(image, "WEBP", quality=92, **pages), image, 4.0),
        "BMP": (encoded(image, "BMP"), image, 0.0),
        "BMP palette": (encoded(palette, "BMP"), palette, 0.0),
        **tiffs,
        "TIFF JPEG": (encoded(image, "TIFF", compression="jpeg", quality=92), image, 4.0),
        "TIFF 16 bit": (encoded(grey_16(), "TIFF"), grey, 0.0),
        "TIFF CMYK": (encoded(image.convert("CMYK"), "TIFF"), image, 0.0),
        "TIFF pages": (encoded(image, "TIFF", **pages), image, 0.0),
    }


def png_chunk(name: bytes, content: bytes) -> bytes:
    """A chunk with its checksum."""
    body = name + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png(width: int, height: int, *chunks: bytes, interlace: int = 0) -> bytes:
    """An 8 bit RGB PNG file with the given chunks."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + b"".join(chunks) + png_chunk(b"IEND", b"")


def tiff(tags: dict[int, tuple[int, int, int]], content: bytes) -> bytes:
    """A little-endian TIFF file: tags as (kind, count, value or offset) by number, then `content`."""
    entries = b"".join(struct.pack("<HHII", number, *tag) for number, tag in tags.items())
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + content


def unusual_jpeg() -> bytes:
    """A JPEG of 64 x 96 pixels in one colour, (200, 100, 50), with a sampling that TurboJPEG does not know."""
    data = bytearray(encoded(Image.new("RGB", (64, 64), (200, 100, 50)), keep_rgb=True, quality=95))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 7] = struct.pack(">H", 96)
    data[at + 17] = 0x21  # two blocks of blue per block of red and green: still 192 in total
    return bytes(data)


@functools.cache
def slow_tiff() -> bytes:
    """A TIFF of 24 kB and 16,384 x 1 pixels, each of whose 1024 tiles is a million rows high: libtiff takes 40 s."""
    width, side, rows = 16_384, 16, 1 << 20
    tile = zlib.compress(bytes(side * rows), 9)
    count = width // side
    tags = {256: (3, 1, width), 257: (3, 1, 1), 258: (3, 1, 8), 259: (3, 1, 8), 262: (3, 1, 1), 277: (3, 1, 1)}
    tags |= {322: (4, 1, side), 323: (4, 1, rows), 324: (4, count, 0), 325: (4, count, 0)}
    places = 14 + 12 * len(tags)
    tags[324], tags[325] = (4, count, places), (4, count, places + 4 * count)
    begin = places + 8 * count
    return tiff(tags, struct.pack(f"<{2 * count}I", *[begin] * count, *[len(tile)] * count) + tile)
