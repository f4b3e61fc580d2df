"""One picture in every kind of file that is accepted."""

from __future__ import annotations

import functools
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from service.imaging.decode import Limits
from tests.pictures import encoded, photo

LIMITS = Limits(max_bytes=1_000_000, max_pixels=1_000_000, max_side=2000)
WIDTH, HEIGHT = 101, 63  # odd, so that blocks, rows and bytes do not come out even


def smooth(width: int, height: int) -> Image.Image:
    """A photograph without its grain, so that lossy files differ little from it."""
    return photo(width, height).filter(ImageFilter.GaussianBlur(2))


@functools.cache
def picture() -> Image.Image:
    return smooth(WIDTH, HEIGHT)


def rgb(image: Image.Image | None = None) -> NDArray[np.int_]:
    """The pixels, as numbers that can be subtracted."""
    return np.asarray((image or picture()).convert("RGB")).astype(int)


@functools.cache
def grey_16() -> Image.Image:
    return Image.fromarray(np.asarray(picture().convert("L")).astype(np.uint16) * 257)


@functools.cache
def files() -> dict[str, tuple[bytes, Image.Image, float]]:
    """By name: the file, the picture that is in it, and by how much its pixels may differ on average."""
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
    """One chunk with its checksum."""
    body = name + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png(width: int, height: int, *chunks: bytes, interlace: int = 0) -> bytes:
    """An 8 bit RGB PNG file of the given chunks."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + b"".join(chunks) + png_chunk(b"IEND", b"")


def tiff(tags: dict[int, tuple[int, int, int]], content: bytes) -> bytes:
    """A little-endian TIFF file: tags as (kind, count, value or offset) by number, then `content`."""
    entries = b"".join(struct.pack("<HHII", number, *tag) for number, tag in tags.items())
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + content
