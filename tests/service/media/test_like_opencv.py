"""Rare kinds of files are decoded to the pixels that OpenCV gives, or are refused."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.media.decode import ImageLimits, UndecodableImageError
from tests.pictures import encoded
from tests.service.media.files import decode, png_chunk, smooth
from tests.shared import SHARED, needs_shared

Pixels = NDArray[np.uint8]
LIMITS = ImageLimits()
WIDTH, HEIGHT = 75, 52

RGB = smooth(WIDTH, HEIGHT)
GREY = RGB.convert("L")
RGB_16: NDArray[np.uint16] = np.asarray(RGB).astype(np.uint16) * 257
GREY_16: NDArray[np.uint16] = np.asarray(GREY).astype(np.uint16) * 257


def opencv(data: bytes) -> Pixels | None:
    """The result of cv2.imread as RGB; None if it does not read the file."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if pixels is None else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))


@dataclass(frozen=True)
class Tiff:
    """A TIFF file of an array of shape (h, w) or (h, w, channels)."""

    pixels: NDArray[Any]
    photometric: int = 1
    planar: bool = False
    order: Literal["<", ">"] = "<"
    deflate: bool = False
    predictor: bool = False
    tile: int = 0
    rows: int = 17
    extra: int | None = None
    orientation: int = 1
    format: int = 1

    def __bytes__(self) -> bytes:
        pixels = self.pixels if self.pixels.ndim == 3 else self.pixels[:, :, None]
        height, width, channels = pixels.shape
        pixels = pixels.astype(pixels.dtype.newbyteorder(self.order))
        planes = [pixels[:, :, n : n + 1] for n in range(channels)] if self.planar else [pixels]
        parts = [self._packed(part) for plane in planes for part in self._parts(plane)]
        offsets, at = [], 8
        for part in parts:
            offsets.append(at)
            at += len(part) + len(part) % 2
        tags: dict[int, tuple[int, list[int]]] = {
            256: (4, [width]),
            257: (4, [height]),
            258: (3, [8 * pixels.itemsize] * channels),
            259: (3, [8 if self.deflate else 1]),
            262: (3, [self.photometric]),
            274: (3, [self.orientation]),
            277: (3, [channels]),
            284: (3, [2 if self.planar else 1]),
            317: (3, [2 if self.predictor else 1]),
            339: (3, [self.format] * channels),
        }
        if self.extra is not None:
            tags[338] = (3, [self.extra])
        if self.tile:
            tags |= {322: (4, [self.tile]), 323: (4, [self.tile]), 324: (4, offsets), 325: (4, [len(p) for p in parts])}
        else:
            tags |= {278: (4, [self.rows]), 273: (4, offsets), 279: (4, [len(p) for p in parts])}
        body = b"".join(part + bytes(len(part) % 2) for part in parts)
        return self._with_directory(body, tags)

    def _parts(self, plane: NDArray[Any]) -> list[NDArray[Any]]:
        height, width, _ = plane.shape
        if not self.tile:
            return [plane[y : y + self.rows] for y in range(0, height, self.rows)]
        side = self.tile
        padded = np.pad(plane, ((0, -height % side), (0, -width % side), (0, 0)))
        return [padded[y : y + side, x : x + side] for y in range(0, height, side) for x in range(0, width, side)]

    def _packed(self, part: NDArray[Any]) -> bytes:
        if self.predictor:
            part = np.concatenate([part[:, :1], part[:, 1:] - part[:, :-1]], axis=1).astype(part.dtype)
        data = part.tobytes()
        return zlib.compress(data) if self.deflate else data

    def _with_directory(self, body: bytes, tags: Mapping[int, tuple[int, list[int]]]) -> bytes:
        order, start = self.order, 8 + len(body)
        values = start + 2 + 12 * len(tags) + 4
        entries, outside = b"", b""
        for number, (kind, content) in sorted(tags.items()):
            packed = struct.pack(f"{order}{len(content)}{'H' if kind == 3 else 'I'}", *content)
            if len(packed) > 4:
                place = struct.pack(f"{order}I", values + len(outside))
                outside += packed + bytes(len(packed) % 2)
            else:
                place = packed.ljust(4, b"\0")
            entries += struct.pack(f"{order}HHI", number, kind, len(content)) + place
        mark = b"II" if order == "<" else b"MM"
        head = mark + struct.pack(f"{order}HI", 42, start)
        return head + body + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + outside


def png_16(pixels: NDArray[np.uint16], colour: int, *chunks: bytes) -> bytes:
    """A PNG with 16 bits a channel. colour: 0 grey, 2 RGB, 4 grey with alpha, 6 RGBA."""
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, colour, 0, 0, 0)
    end = png_chunk(b"IDAT", zlib.compress(lines)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + b"".join(chunks) + end


def opaque(pixels: NDArray[np.uint16]) -> NDArray[np.uint16]:
    return np.dstack([pixels, np.full(pixels.shape[:2], 65535, np.uint16)])


def bmp(bits: int, *, top_down: bool = False, alpha: int | None = None, masks: tuple[int, ...] = ()) -> bytes:
    """A BMP of 16, 24 or 32 bits. alpha: per pixel, with a V4 header. masks: of red, green and blue."""
    rgb = np.asarray(RGB).astype(np.uint32)
    if bits == 16:
        five = masks in ((), (0x7C00, 0x3E0, 0x1F))
        green = (rgb[..., 1] >> 3) << 5 if five else (rgb[..., 1] >> 2) << 5
        red = (rgb[..., 0] >> 3) << (10 if five else 11)
        stored = (red | green | rgb[..., 2] >> 3).astype("<u2")[:, :, None].view(np.uint8)
    else:
        stored = rgb[..., ::-1].astype(np.uint8)
        if bits == 32:
            stored = np.dstack([stored, np.full(stored.shape[:2], alpha or 0, np.uint8)])
    stored = stored if top_down else stored[::-1]
    rows = b"".join(row.tobytes() + bytes(-row.nbytes % 4) for row in stored)
    compression = 3 if masks or alpha is not None else 0
    tail = struct.pack(f"<{len(masks)}I", *masks)
    size = 40
    if alpha is not None:
        tail, size = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(52), 108
    height = -HEIGHT if top_down else HEIGHT
    header = struct.pack("<IiiHHIIiiII", size, WIDTH, height, 1, bits, compression, len(rows), 0, 0, 0, 0) + tail
    offset = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + header + rows


def tiff(**options: object) -> Callable[[NDArray[Any]], bytes]:
    return lambda pixels: bytes(Tiff(pixels, **options))  # type: ignore[arg-type]


def _with_alpha(image: Image.Image, alpha: int) -> Image.Image:
    copy = image.copy()
    copy.putalpha(alpha)
    return copy


def files() -> dict[str, bytes]:
    """Opaque pictures of all kinds."""
    rgb, grey = np.asarray(RGB), np.asarray(GREY)
    found = {
        "PNG 16 bit grey": png_16(GREY_16, 0),
        "PNG 16 bit RGB": png_16(RGB_16, 2),
        "PNG 16 bit grey, alpha": png_16(opaque(GREY_16), 4),
        "PNG 16 bit RGBA": png_16(opaque(RGB_16), 6),
        "PNG 16 bit RGB, transparent colour": png_16(RGB_16, 2, png_chunk(b"tRNS", struct.pack(">3H", *RGB_16[3, 4]))),
        "PNG 16 bit grey, transparent": png_16(GREY_16, 0, png_chunk(b"tRNS", struct.pack(">H", GREY_16[3, 4]))),
        "PNG grey, alpha": encoded(_with_alpha(GREY, 255), "PNG"),
        "PNG palette, opaque alpha": encoded(RGB.quantize(32), "PNG", transparency=bytes([255] * 32)),
        "WebP RGBA": encoded(_with_alpha(RGB, 255), "WEBP", lossless=True),
        "BMP 16": bmp(16),
        "BMP 16, top-down": bmp(16, top_down=True),
        "BMP 565": bmp(16, masks=(0xF800, 0x7E0, 0x1F)),
        "BMP 24": bmp(24),
        "BMP 24, top-down": bmp(24, top_down=True),
        "BMP 32": bmp(32),
        "BMP 32, top-down": bmp(32, top_down=True),
        "BMP 32, bit fields": bmp(32, masks=(0xFF0000, 0xFF00, 0xFF)),
        "BMP V4, alpha 0": bmp(32, alpha=0),
        "BMP V4, alpha 0, top-down": bmp(32, alpha=0, top_down=True),
        "BMP V4, alpha 255": bmp(32, alpha=255),
        "BMP palette": encoded(RGB.quantize(200), "BMP"),
        "BMP 1 bit": encoded(RGB.convert("1"), "BMP"),
        "BMP grey": encoded(GREY, "BMP"),
        "TIFF 1 bit": encoded(RGB.convert("1"), "TIFF"),
        "TIFF palette": encoded(RGB.quantize(32), "TIFF"),
        "TIFF LZW with predictor": encoded(RGB, "TIFF", compression="tiff_lzw", tiffinfo={317: 2}),
        "TIFF JPEG": encoded(RGB, "TIFF", compression="jpeg", quality=95),
        "TIFF big": encoded(RGB, "TIFF", big_tiff=True),
        "TIFF of two pages": encoded(RGB, "TIFF", save_all=True, append_images=[RGB.rotate(180)]),
        "JPEG CMYK": encoded(RGB.convert("CMYK"), quality=95),
        "JPEG grey": encoded(GREY, quality=95),
        "JPEG progressive, 4:1:1": encoded(RGB, quality=95, progressive=True, subsampling="4:1:1"),
    }
    for order in "<>":
        for deflate in (False, True):
            for tile in (0, 32):
                kind = {"order": order, "deflate": deflate, "tile": tile}
                name = f"{'little' if order == '<' else 'big'}{' deflate' * deflate}{' tiles' * bool(tile)}"
                found |= {
                    f"TIFF grey {name}": tiff(**kind)(grey),
                    f"TIFF white is 0 {name}": tiff(photometric=0, **kind)(255 - grey),
                    f"TIFF 16 bit grey {name}": tiff(**kind)(GREY_16),
                    f"TIFF 16 bit white is 0 {name}": tiff(photometric=0, **kind)(65535 - GREY_16),
                    f"TIFF RGB {name}": tiff(photometric=2, **kind)(rgb),
                    f"TIFF 16 bit RGB {name}": tiff(photometric=2, **kind)(RGB_16),
                    f"TIFF planes {name}": tiff(photometric=2, planar=True, **kind)(rgb),
                    f"TIFF 16 bit planes {name}": tiff(photometric=2, planar=True, **kind)(RGB_16),
                    f"TIFF 16 bit RGBA {name}": tiff(photometric=2, extra=2, **kind)(opaque(RGB_16)),
                    f"TIFF 16 bit RGBX {name}": tiff(photometric=2, extra=0, **kind)(opaque(RGB_16)),
                    f"TIFF CMYK {name}": tiff(photometric=5, **kind)(np.asarray(RGB.convert("CMYK"))),
                    f"TIFF float {name}": tiff(format=3, **kind)(grey.astype(np.float32) / 255),
                    f"TIFF signed {name}": tiff(format=2, **kind)((GREY_16 // 2).astype(np.int16)),
                    f"TIFF 32 bit {name}": tiff(**kind)(GREY_16.astype(np.uint32) * 65537),
                }
                if deflate:
                    found |= {
                        f"TIFF predictor {name}": tiff(photometric=2, predictor=True, **kind)(rgb),
                        f"TIFF 16 bit predictor {name}": tiff(photometric=2, predictor=True, **kind)(RGB_16),
                    }
    for turn in range(1, 9):
        found[f"TIFF turned {turn}"] = tiff(photometric=2, orientation=turn)(rgb)
        found[f"TIFF turned {turn}, deflate"] = tiff(photometric=2, orientation=turn, deflate=True)(rgb)
        found[f"TIFF 16 bit turned {turn}"] = tiff(orientation=turn)(GREY_16)
    return found


FILES = files()
REFUSED = ("float", "signed", "32 bit", "16 bit planes", "16 bit white is 0 big")
"""Files with an unknown range of values, and files that Pillow does not read or reads wrong."""
MIXED_UP = (
    *("16 bit grey little tiles", "16 bit grey little deflate tiles", "16 bit white is 0 little tiles"),
    *("16 bit white is 0 little deflate tiles", "16 bit grey big tiles", "16 bit grey big deflate tiles"),
)
"""Files of which OpenCV puts tiles at wrong positions."""
COARSE = ("BMP 16", "BMP 565")
"""Decoders expand channels of five bits differently."""


@pytest.mark.parametrize("name", FILES)
def test_a_rare_file_has_the_pixels_of_opencv_or_is_refused(name: str) -> None:
    if any(kind in name for kind in REFUSED):
        with pytest.raises(UndecodableImageError, match=r"export it|save it as PNG"):
            decode(FILES[name], LIMITS)
        return
    wanted = opencv(FILES[name])
    if wanted is None or name.removeprefix("TIFF ") in MIXED_UP:
        wanted = np.asarray(RGB if "RGB" in name or "CMYK" in name else GREY.convert("RGB"))
    pixels = decode(FILES[name], LIMITS).pixels.astype(int)
    tolerance = 8 if name.startswith(COARSE) else 4 if "CMYK" in name or "JPEG" in name else 1
    assert pixels.shape == wanted.shape
    assert np.abs(pixels - wanted).max() <= tolerance


def exif(order: str, *entries: tuple[int, int, int, int], count: int | None = None) -> bytes:
    """A block of EXIF: entries as (tag, type, count, value or offset). count: the declared number of entries."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    rows = (
        struct.pack(f"{order}HHI", *entry[:3])
        + (struct.pack(f"{order}HH", entry[3], 0) if entry[1] == 3 else struct.pack(f"{order}I", entry[3]))
        for entry in entries
    )
    return head + struct.pack(f"{order}H", len(entries) if count is None else count) + b"".join(rows) + bytes(4)


TURN = (0x112, 3, 1, 6)
DAMAGED = {
    "value beyond the end": ((0x11A, 5, 1, 60_000),),
    "text beyond the end": ((0x10F, 2, 5_000, 60_000),),
    "unknown type": ((0x110, 77, 1, 5),),
    "absurd count": ((0x110, 3, 0xFFFFFFFF, 9),),
    "no count": ((0x110, 3, 0, 9),),
    "pointer into nothing": ((0x8769, 4, 1, 0xFFFFFFF0),),
    "pointer to itself": ((0x8769, 4, 1, 8),),
}


def with_segments(data: bytes, *contents: bytes) -> bytes:
    """A JPEG with additional APP1 segments at its beginning."""
    segments = (b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content for content in contents)
    return data[:2] + b"".join(segments) + data[2:]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("first", [True, False])
def test_a_damaged_tag_does_not_hide_the_orientation(order: str, kind: str, damage: str, first: bool) -> None:
    entries = (*DAMAGED[damage], TURN) if first else (TURN, *DAMAGED[damage])
    decoded = decode(encoded(RGB, kind, exif=b"Exif\0\0" + exif(order, *entries)), LIMITS)
    assert (decoded.width, decoded.height) == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(exif("<", TURN, count=40), id="fewer entries than it says"),
        pytest.param(exif(">", TURN)[:-4], id="cut off behind the orientation"),
        pytest.param(exif("<", (0x112, 3, 7, 6)), id="several orientations"),
        pytest.param(exif("<", (0x112, 4, 1, 6)), id="a long number"),
        pytest.param(exif(">", (0x112, 3, 0, 6)), id="no count"),
    ],
)
def test_an_odd_orientation_is_read_as_by_opencv(block: bytes) -> None:
    data = with_segments(encoded(RGB), b"Exif\0\0" + block)
    wanted = opencv(data)
    assert wanted is not None
    assert decode(data, LIMITS).pixels.shape == wanted.shape == (WIDTH, HEIGHT, 3)


def test_metadata_may_follow_other_metadata() -> None:
    turn = b"Exif\0\0" + exif("<", TURN)
    others = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>", b"Exif\0\0" + exif("<", (0x110, 3, 1, 1)), b"", b"Exif\0\0"
    for other in others:
        decoded = decode(with_segments(encoded(RGB), other, turn), LIMITS)
        assert (decoded.width, decoded.height) == (HEIGHT, WIDTH)


def segments(data: bytes) -> list[int]:
    """The offsets of a JPEG's segments up to the first scan."""
    places, at = [], 2
    while data[at + 1] != 0xDA:
        places.append(at)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return [*places, at]


STRAYS = [b"\0", b"\xff", b"\xff\0", b"\0\xff\xff\0\xff", bytes(608), b"\xff\xff\xff", b"webcam" * 50]


@pytest.mark.parametrize("stray", STRAYS, ids=lambda stray: f"{stray[:4].hex()} of {len(stray)}")
@pytest.mark.parametrize("progressive", [False, True])
def test_bytes_between_the_segments_of_a_jpeg_are_skipped(stray: bytes, progressive: bool) -> None:
    clean = encoded(RGB, quality=92, progressive=progressive)
    wanted = decode(clean, LIMITS).pixels
    places = segments(clean)
    for place in (*places[1:], len(clean) - 2):
        data = clean[:place] + stray + clean[place:]
        assert (decode(data, LIMITS).pixels == wanted).all()
        assert (opencv(data) == opencv(clean)).all()  # type: ignore[union-attr]
    everywhere = clean[:2] + b"".join(clean[a:b] + stray for a, b in pairwise(places)) + clean[places[-1] :]
    assert (decode(everywhere, LIMITS).pixels == wanted).all()
    assert (decode(everywhere, LIMITS, needs=(20, 20)).pixels == decode(clean, LIMITS, needs=(20, 20)).pixels).all()


def test_a_truncated_jpeg_with_stray_bytes_is_an_error() -> None:
    clean = encoded(RGB, quality=92)
    for place in (segments(clean)[1], len(clean) - 2):
        data = clean[:place] + bytes(40) + clean[place:]
        for end in (*range(len(data) // 2, len(data) - 42, 97), len(data) - 42, len(data) - 2):
            with pytest.raises(UndecodableImageError):
                decode(data[:end], LIMITS)


def test_a_search_for_the_next_segment_ends() -> None:
    for filling in (b"\0", b"\xff", b"\xff\0"):
        with pytest.raises(UndecodableImageError, match="no marker in the 65,536 bytes"):
            decode(b"\xff\xd8\xff\xfe\0\2" + filling * 3_000_000, LIMITS)


def test_transparent_parts_of_a_bmp_are_white() -> None:
    image = Image.open(io.BytesIO(bmp(32, alpha=128)))
    image.load()
    pixels = decode(bmp(32, alpha=128), LIMITS).pixels.astype(int)
    assert np.abs(pixels - (np.asarray(RGB) * (128 / 255) + 127)).max() <= 2


@needs_shared
@pytest.mark.parametrize("folder", ["exif", "pixels", "stray"])
def test_former_failures_are_decoded(folder: str) -> None:
    for path in sorted((SHARED / "cases" / folder).iterdir()):
        wanted = opencv(path.read_bytes())
        assert wanted is not None
        if path.name == "tiff_rgb16_planar.tif":
            with pytest.raises(UndecodableImageError, match="planes"):
                decode(path.read_bytes(), LIMITS)
            continue
        pixels = decode(path.read_bytes(), LIMITS).pixels
        assert pixels.shape == wanted.shape, path
        assert np.abs(pixels.astype(int) - wanted).max() <= 1, path
