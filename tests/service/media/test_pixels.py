"""Images are turned upright by their EXIF orientation, and encoded as the client requested."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from service.media.image_files import read_orientation
from service.media.jpeg import JpegFile
from service.media.pixels import MEDIA_TYPES, encode
from tests.pictures import encoded
from tests.service.media.files import LIMITS, decode, picture, rgb, smooth

PIXELS = np.asarray(picture())

every_orientation = pytest.mark.parametrize("orientation", range(1, 9))


def exif(orientation: int, order: str = "<") -> bytes:
    """An EXIF block with only the orientation."""
    mark = b"II" if order == "<" else b"MM"
    return mark + struct.pack(f"{order}HIHHHIHHI", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def stored(orientation: int, size: tuple[int, int] = (160, 96)) -> tuple[Image.Image, Image.Image]:
    """An image as stored, and as displayed (according to Pillow)."""
    image = smooth(*size)
    image.getexif()[0x0112] = orientation
    return image, ImageOps.exif_transpose(image)


@every_orientation
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_images_are_upright(kind: str, orientation: int) -> None:
    image, meant = stored(orientation)
    options: dict[str, object] = {"exif": image.getexif()}
    if kind == "TIFF":
        options = {"tiffinfo": {0x0112: orientation}}
    decoded = decode(encoded(image, kind, quality=95, **options), LIMITS)

    assert (decoded.width, decoded.height) == meant.size
    assert decoded.pixels.flags.c_contiguous
    assert np.abs(decoded.pixels - rgb(meant)).mean() < 4


@every_orientation
def test_reduced_images_are_upright(orientation: int) -> None:
    image, meant = stored(orientation)
    needs = (meant.width // 4, meant.height // 4)
    decoded = decode(encoded(image, quality=95, exif=image.getexif()), LIMITS, needs=needs)

    assert (decoded.width, decoded.height, decoded.scale) == (*meant.size, 4)
    assert decoded.pixels.shape[1::-1] == needs
    assert np.abs(decoded.pixels - rgb(meant.reduce(4))).mean() < 4


@every_orientation
@pytest.mark.parametrize("size", [(160, 96), (161, 97), (40, 333), (9, 7)])
@pytest.mark.parametrize("needs", [None, (40, 24), (13, 90), (1, 1)])
def test_the_size_of_a_reduced_jpeg_is_known_before_it_is_decoded(
    orientation: int, size: tuple[int, int], needs: tuple[int, int] | None
) -> None:
    image, _ = stored(orientation, size)
    file = JpegFile.read(encoded(image, exif=image.getexif()), LIMITS)
    decoded = file.decode(needs)
    assert file.decoded_size(needs) == (*decoded.pixels.shape[1::-1], decoded.scale)
    assert file.upright_size == (decoded.width, decoded.height)


def test_the_needed_size_is_that_of_the_upright_image() -> None:
    image, _ = stored(6, size=(160, 96))  # 96 x 160 when upright
    data = encoded(image, exif=image.getexif())
    assert decode(data, LIMITS, needs=(48, 999)).scale == 2
    assert decode(data, LIMITS, needs=(80, 999)).scale == 1


@every_orientation
def test_sizes_that_do_not_divide_keep_their_positions(orientation: int) -> None:
    image, meant = stored(orientation, size=(161, 97))
    decoded = decode(encoded(image, quality=95, exif=image.getexif()), LIMITS, needs=(50, 50))
    height, width, _ = decoded.pixels.shape
    assert decoded.scale == 2
    whole = meant.crop((0, 0, width // 2 * 4, height // 2 * 4))
    assert np.abs(decoded.pixels[: height // 2 * 2, : width // 2 * 2] - rgb(whole.reduce(2))).mean() < 4


@every_orientation
@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_are_read(orientation: int, order: str) -> None:
    assert read_orientation(memoryview(exif(orientation, order))) == orientation


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"II*\0",
        b"nonsense",
        exif(0),
        exif(9),
        exif(6)[:-7],
        exif(6).replace(b"II*", b"II+"),
        b"II" + struct.pack("<HIH", 42, 8, 65535) + bytes(100),
        b"II" + struct.pack("<HI", 42, 2**32 - 1),
    ],
)
def test_invalid_metadata_is_ignored(block: bytes) -> None:
    assert read_orientation(memoryview(block)) is None
    plain = smooth(48, 32)
    decoded = decode(encoded(plain, "JPEG", exif=b"Exif\0\0" + block), LIMITS)
    assert (decoded.width, decoded.height) == (48, 32)


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_the_encoded_file_has_its_type_and_the_pixels(media_type: str) -> None:
    image = Image.open(io.BytesIO(encode(PIXELS, media_type)))
    assert image.get_format_mimetype() == media_type
    assert np.abs(rgb(image) - PIXELS).mean() < (0.001 if media_type == "image/png" else 4)


def test_higher_quality_gives_larger_files() -> None:
    assert len(encode(PIXELS, "image/jpeg", quality=50)) < len(encode(PIXELS, "image/jpeg", quality=95))


def test_other_types_cannot_be_encoded() -> None:
    with pytest.raises(ValueError, match="cannot write 'image/gif', only image/jpeg and image/png"):
        encode(PIXELS, "image/gif")
