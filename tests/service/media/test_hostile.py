"""Hostile files take few resources and raise nothing but ImageError."""

from __future__ import annotations

import contextlib
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.media.decode import ImageError, ImageLimits, ImageTooLargeError, UndecodableImageError
from service.media.decoder_pool import DecoderPool
from service.media.decoder_process import Bounds
from service.media.jpeg import JpegFile
from tests.pictures import encoded, photo
from tests.service.media.files import LIMITS, decode, files, picture, png, png_chunk, rgb, tiff, unusual_jpeg

ROOMY = ImageLimits()
SMALL = Bounds(memory=60_000_000)
"""Little more than Python and Pillow need."""
GOOD_TIFF = {256: (3, 1, 100), 257: (3, 1, 100), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}
GOOD_TIFF |= {278: (4, 1, 100), 273: (4, 1, 122), 279: (4, 1, 10_000)}
PIXELS = png_chunk(b"IDAT", zlib.compress(bytes(100 * 301)))


def huge_headers() -> dict[str, bytes]:
    """Headers of 20,000 x 20,000 pixels without any data."""
    side = struct.pack("<I", 19_999)[:3]
    return {
        "PNG": png(20_000, 20_000, png_chunk(b"IDAT", b""))[:45],
        "JPEG": b"\xff\xd8\xff\xc0"
        + struct.pack(">HBHHB9x", 17, 8, 20_000, 20_000, 3)
        + b"\xff\xda\0\x0c\3"
        + bytes(9),
        "WebP": b"RIFF" + bytes(4) + b"WEBPVP8X" + struct.pack("<II", 10, 0) + side + side,
        "BMP": b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, 20_000, -20_000, 1, 24, 0, 0, 0, 0, 0, 0),
        "TIFF": tiff(dict(sorted((GOOD_TIFF | {256: (3, 1, 20_000), 257: (3, 1, 20_000)}).items())), b""),
    }


@pytest.mark.parametrize("name", huge_headers())
def test_too_many_pixels_are_refused_from_the_header_alone(name: str) -> None:
    message = "more than the 25,000,000 pixels" if name == "WebP" else "20,000 x 20,000 pixels"
    with pytest.raises(ImageTooLargeError, match=message):
        decode(huge_headers()[name], ROOMY)


def test_a_huge_png_is_refused_before_it_takes_memory() -> None:
    data = png(20_000, 20_000, png_chunk(b"IDAT", zlib.compress(bytes(50_000_000))))
    with DecoderPool(1, SMALL) as pool, pytest.raises(ImageTooLargeError, match="20,000 x 20,000"):
        pool.decode("PNG", data, ROOMY, None)


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000)))] * 200, id="texts"),
        pytest.param([png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(100_000_000)))], id="colour profile"),
        pytest.param([png_chunk(b"acTL", bytes(8)), png_chunk(b"fcTL", bytes(26))], id="broken animation"),
    ],
)
def test_metadata_is_not_unpacked(chunks: list[bytes]) -> None:
    with DecoderPool(1, SMALL) as pool:
        assert (pool.decode("PNG", png(100, 100, *chunks, PIXELS), ROOMY, None).pixels == 0).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(png(100, 100), "cannot be decoded", id="PNG without pixels"),
        pytest.param(png(0, 100, PIXELS), "makes no sense", id="PNG without width"),
        pytest.param(png(100, 100, PIXELS[:-1] + b"!"), "cannot be decoded", id="PNG checksum"),
        pytest.param(b"\xff\xd8" + b"\xff\xfe\0\2" * 100_000 + b"\xff\xd9", "no picture", id="JPEG segments"),
        pytest.param(b"\xff\xd8\xff\xfe\0\2garbage", "inside its header", id="JPEG without marker"),
        pytest.param(b"\xff\xd8\xff\xd9", "no picture", id="JPEG of nothing"),
        pytest.param(b"\xff\xd8\xff\xff\xff", "inside its header", id="JPEG of filling"),
        pytest.param(b"RIFF\x20\0\0\0WEBPJUNK" + bytes(50), "header makes no sense", id="WebP of nothing"),
        pytest.param(
            b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, 9, 9, 1, 8, 1, 0, 0, 0, 0, 0),
            "cannot be decoded",
            id="BMP RLE without pixels",
        ),
        pytest.param(
            b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, 9, 9, 1, 8, 0, 0, 0, 0, 60_000, 0),
            "truncated BMP",
            id="BMP",
        ),
    ],
)
def test_files_with_wrong_fields_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(UndecodableImageError, match=message):
        decode(data, ROOMY)


def test_only_the_first_blocks_of_metadata_of_a_jpeg_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def read_orientation(exif: memoryview) -> None:
        read.append(len(exif))

    monkeypatch.setattr("service.media.jpeg.read_orientation", read_orientation)
    whole = encoded(photo(64, 64))
    block = b"\xff\xe1" + struct.pack(">H", 1008) + b"Exif\0\0" + bytes(1000)
    decode(whole[:2] + block * 900 + whole[2:], ROOMY)
    assert read == [1000] * 4


def test_a_jpeg_of_a_thousand_scans_is_not_decoded() -> None:
    data = encoded(picture(), progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    assert JpegFile.read(data, ROOMY).has_many_scans
    assert not JpegFile.read(encoded(photo(64, 64)), ROOMY).has_many_scans
    with pytest.raises(UndecodableImageError, match=r"has 10\d\d scans"):
        decode(data[:-2] + last * 1000 + data[-2:], ROOMY)


def test_chroma_samplings_that_turbojpeg_does_not_support_are_decoded() -> None:
    pixels = decode(unusual_jpeg(), ROOMY).pixels.astype(int)
    assert pixels.shape == (96, 64, 3)
    assert np.abs(pixels - (200, 100, 50)).max() <= 3


def test_the_tiff_that_the_next_test_damages_is_valid() -> None:
    assert decode(tiff(dict(sorted(GOOD_TIFF.items())), bytes(10_000)), ROOMY).pixels.shape == (100, 100, 3)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        pytest.param({259: (3, 1, 4)}, "this compression", id="fax"),
        pytest.param({259: (3, 1, 99)}, "makes no sense", id="unknown compression"),
        pytest.param({277: (3, 2, 0)}, "makes no sense", id="two counts of channels"),
        pytest.param({279: (4, 1, 10_001)}, "go on to byte", id="strip beyond the end"),
        pytest.param({279: (4, 2, 8)}, "go on to byte", id="strips and sizes"),
        pytest.param({273: (4, 2000, 8), 279: (4, 2000, 8)}, "are missing", id="overlapping tags"),
        pytest.param({256: (3, 1, 0)}, "makes no sense", id="no width"),
        pytest.param({258: (3, 1, 77)}, "header makes no sense", id="bits"),
    ],
)
def test_tiffs_with_wrong_tags_are_refused(tags: dict[int, tuple[int, int, int]], message: str) -> None:
    merged = dict(sorted((GOOD_TIFF | tags).items()))
    merged[273] = (merged[273][0], merged[273][1], 14 + 12 * len(merged)) if 273 not in tags else tags[273]
    with pytest.raises(UndecodableImageError, match=message):
        decode(tiff(merged, bytes(10_000)), ROOMY)


@pytest.mark.parametrize(
    "tags",
    [
        pytest.param({322: (4, 1, 60_000), 323: (4, 1, 60_000)}, id="tiles beside strips"),
        pytest.param({320: (3, 2**31, 8)}, id="tag beyond the end"),
        pytest.param(dict.fromkeys(range(1000, 2100), (7, 9000, 8)), id="many tags"),
    ],
)
def test_tags_that_are_not_needed_may_be_wrong(tags: dict[int, tuple[int, int, int]]) -> None:
    merged = dict(sorted((GOOD_TIFF | tags).items()))
    merged[273] = (4, 1, 14 + 12 * len(merged))
    assert decode(tiff(merged, bytes(10_000)), ROOMY).pixels.shape == (100, 100, 3)


def test_metadata_of_a_tiff_is_not_read() -> None:
    # Directories that Pillow would follow: the next page is this one, and so are EXIF and GPS.
    data = bytearray(
        tiff(dict(sorted((GOOD_TIFF | {273: (4, 1, 170), 34665: (4, 1, 8), 34853: (4, 1, 8)}).items())), b"")
    )
    data[-4:] = struct.pack("<I", 8)
    assert decode(bytes(data) + bytes(10_024), ROOMY).pixels.shape == (100, 100, 3)


def test_libtiff_does_not_write_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(encoded(picture(), "TIFF", compression="tiff_adobe_deflate"))
    data[len(data) // 2 : len(data) // 2 + 9] = b"\xff" * 9
    with pytest.raises(UndecodableImageError):
        decode(bytes(data), LIMITS)
    assert capfd.readouterr().err == ""


def checked(data: bytes) -> None:
    """Decode. The result is a whole image or an ImageError."""
    with contextlib.suppress(ImageError):
        decoded = decode(data, LIMITS, needs=(20, 20))
        height, width, _ = decoded.pixels.shape
        assert 0 <= width - decoded.width // decoded.scale <= 1
        assert 0 <= height - decoded.height // decoded.scale <= 1


NAMES = sorted(files())
MARKS = [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBPVP8 ", b"BM", b"II*\0", b"MM\0*"]


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.tuples(st.sampled_from(MARKS), st.binary(max_size=300)).map(b"".join)))
def test_random_bytes_are_image_errors(data: bytes) -> None:
    checked(data)


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A good file with some bytes changed, removed or added. A PNG's checksums may be corrected."""
    name = draw(st.sampled_from(NAMES))
    data = bytearray(files()[name][0])
    for _ in range(draw(st.integers(1, 6))):
        # Most errors are in the header.
        at = draw(st.one_of(st.integers(0, min(200, len(data) - 1)), st.integers(0, len(data) - 1)))
        data[at] = draw(st.sampled_from([0, 1, 127, 128, 255]) | st.integers(0, 255))
    if draw(st.booleans()):
        start = draw(st.integers(0, len(data) - 1))
        data[start : start + draw(st.integers(0, 40))] = draw(st.binary(max_size=40))
    if name.startswith("PNG") and draw(st.booleans()):
        _mend_checksums(data)
    return bytes(data)


def _mend_checksums(data: bytearray) -> None:
    at = 8
    while at + 12 <= len(data):
        end = at + 12 + struct.unpack_from(">I", data, at)[0]
        if end > len(data):
            break
        struct.pack_into(">I", data, end - 4, zlib.crc32(data[at + 4 : end - 4]))
        at = end


@settings(max_examples=1000, deadline=None)
@given(spoilt())
def test_damaged_files_are_decoded_or_image_errors(data: bytes) -> None:
    checked(data)


def test_good_files_are_still_decoded_afterwards() -> None:
    data, image, _ = files()["PNG"]
    assert np.array_equal(decode(data, LIMITS).pixels, rgb(image))
