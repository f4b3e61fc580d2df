"""Every accepted kind of file is decoded to its picture, or is an error that says why not."""

from __future__ import annotations

import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from service.media.decode import (
    ImageLimits,
    ImageTooLargeError,
    NotAnImageError,
    UndecodableImageError,
    recognise,
)
from tests.pictures import encoded, photo
from tests.service.media.files import HEIGHT, LIMITS, WIDTH, decode, files, picture, png, png_chunk, rgb

every_file = pytest.mark.parametrize("name", files())


@every_file
def test_every_kind_of_file_is_decoded(name: str) -> None:
    data, image, tolerance = files()[name]
    decoded = decode(data, LIMITS)

    assert (decoded.width, decoded.height, decoded.scale) == (WIDTH, HEIGHT, 1)
    assert decoded.pixels.shape == (HEIGHT, WIDTH, 3)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.flags.c_contiguous
    assert np.abs(decoded.pixels - rgb(image)).mean() <= tolerance


@every_file
def test_a_view_of_a_larger_buffer_is_decoded(name: str) -> None:
    data, _, _ = files()[name]
    whole = decode(data, LIMITS)
    part = decode(memoryview(b"before" + data + b"after")[6:-5], LIMITS)
    assert (part.pixels == whole.pixels).all()


@every_file
def test_a_truncated_file_never_gives_a_partial_picture(name: str) -> None:
    data, _, _ = files()[name]
    whole = decode(data, LIMITS).pixels
    for length in sorted({*range(1, len(data), max(1, len(data) // 60)), len(data) - 1}):
        try:
            pixels = decode(data[:length], LIMITS).pixels
        except NotAnImageError:
            assert length < 12  # cut within the signature of its type
        except UndecodableImageError:
            continue
        else:  # only further pages or padding are missing
            assert (pixels == whole).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (8, 8), (9, 17)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_tiny_pictures_are_decoded(kind: str, size: tuple[int, int]) -> None:
    decoded = decode(encoded(Image.new("RGB", size, "red"), kind), LIMITS, needs=(192, 256))
    assert (decoded.width, decoded.height) == size
    assert decoded.pixels.shape == (size[1], size[0], 3)
    assert np.abs(decoded.pixels - np.array([255, 0, 0])).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparent_parts_are_white(kind: str) -> None:
    image = picture().copy()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    alpha = np.asarray(image)[:, :, 3:] / 255
    expected = rgb() * alpha + 255 * (1 - alpha)

    assert np.abs(decode(encoded(image, kind, **options), LIMITS).pixels - expected).max() <= 2


def test_transparent_colours_and_palettes_are_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    palette = decode(encoded(image, "PNG", transparency=0), LIMITS).pixels
    colour = decode(encoded(image.convert("RGB"), "PNG", transparency=(10, 20, 30)), LIMITS).pixels

    assert palette.tolist() == colour.tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_interlaced_png() -> None:
    # Adam7 of 2 x 2 pixels: the first, its right neighbour, the lower row. Each line starts with its filter type.
    lines = b"\0" + b"\xff\0\0" + b"\0" + b"\0\xff\0" + b"\0" + b"\0\0\xff" + b"\xff\xff\xff"
    data = png(2, 2, png_chunk(b"IDAT", zlib.compress(lines)), interlace=1)

    red, green, blue, white = [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]
    assert decode(data, LIMITS).pixels.tolist() == [[red, green], [blue, white]]


@pytest.mark.parametrize(
    ("image", "kind"),
    [(Image.new("F", (4, 4)), "TIFF"), (Image.new("I", (4, 4)), "TIFF"), (Image.new("LAB", (4, 4)), "TIFF")],
)
def test_pixels_without_a_known_range_are_refused(image: Image.Image, kind: str) -> None:
    with pytest.raises(UndecodableImageError, match="export it with 8 or 16 bits"):
        decode(encoded(image, kind), LIMITS)


class TestNeeds:
    """Decoding at a smaller size."""

    @pytest.mark.parametrize(
        ("needs", "scale"),
        [
            (None, 1),
            ((640, 480), 1),
            ((321, 241), 1),
            ((321, 240), 2),
            ((192, 256), 2),  # 320 x 240 is fitted as 192 x 144
            ((160, 121), 4),
            ((81, 61), 4),
            ((81, 60), 8),
            ((1, 1), 8),
        ],
    )
    def test_one_side_stays_as_large_as_is_needed(self, needs: tuple[int, int] | None, scale: int) -> None:
        decoded = decode(encoded(photo(640, 480)), LIMITS, needs=needs)
        assert decoded.scale == scale
        assert decoded.pixels.shape == (480 // scale, 640 // scale, 3)
        assert (decoded.width, decoded.height) == (640, 480)

    @pytest.mark.parametrize("scale", [2, 4, 8])
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
    def test_the_picture_is_the_same_but_smaller(self, scale: int, kind: str) -> None:
        image = photo(640, 480)
        decoded = decode(encoded(image, kind, quality=95), LIMITS, needs=(640 // scale, 480 // scale))
        assert decoded.scale == scale
        assert decoded.pixels.flags.c_contiguous
        assert np.abs(decoded.pixels - rgb(image.reduce(scale))).mean() < 3

    @pytest.mark.parametrize(("kind", "shape"), [("JPEG", (241, 322, 3)), ("PNG", (240, 321, 3))])
    def test_odd_sizes_are_rounded(self, kind: str, shape: tuple[int, int, int]) -> None:
        decoded = decode(encoded(photo(643, 481), kind), LIMITS, needs=(300, 200))
        assert decoded.pixels.shape == shape
        assert (decoded.width, decoded.height, decoded.scale) == (643, 481, 2)

    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    def test_a_line_stays_a_line(self, kind: str) -> None:
        decoded = decode(encoded(photo(63, 1), kind), LIMITS, needs=(20, 20))
        assert decoded.scale == 2
        assert decoded.pixels.shape[0] == 1

    def test_places_stay_the_scale_times_their_coordinates(self) -> None:
        image = Image.new("RGB", (643, 481))
        image.paste("white", (400, 320, 402, 322))
        decoded = decode(encoded(image, "PNG"), LIMITS, needs=(300, 200))
        assert np.argwhere(decoded.pixels[..., 0]).tolist() == [[160, 200]]

    @pytest.mark.parametrize("mode", ["L", "CMYK"])
    def test_grey_and_cmyk_as_well(self, mode: str) -> None:
        image = photo(640, 480).convert(mode)
        decoded = decode(encoded(image, quality=95), LIMITS, needs=(320, 240))
        assert decoded.pixels.shape == (240, 320, 3)
        assert np.abs(decoded.pixels - rgb(image.convert("RGB").reduce(2))).mean() < 3


class TestLimits:
    """Images that are too large or empty."""

    def test_bytes(self) -> None:
        with pytest.raises(ImageTooLargeError, match=r"has 101 bytes, at most 100 are accepted; send it smaller"):
            decode(bytes(101), ImageLimits(max_bytes=100))

    @every_file
    def test_pixels_and_sides(self, name: str) -> None:
        data, _, _ = files()[name]
        message = "more than the 6,362" if name.startswith("WebP") else "101 x 63 pixels, at most 6,362 in all"
        with pytest.raises(ImageTooLargeError, match=message):
            decode(data, ImageLimits(max_pixels=WIDTH * HEIGHT - 1))
        with pytest.raises(ImageTooLargeError, match="100 a side"):
            decode(data, ImageLimits(max_side=WIDTH - 1))
        decode(data, ImageLimits(max_bytes=len(data), max_pixels=WIDTH * HEIGHT, max_side=WIDTH))

    def test_nothing(self) -> None:
        with pytest.raises(UndecodableImageError, match="the body is empty"):
            decode(b"", LIMITS)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"GIF89a" + bytes(50), "a GIF"),
        (b"\0\0\0\x18ftypheic" + bytes(50), "a HEIC picture"),
        (b"\0\0\0\x18ftypavif" + bytes(50), "an AVIF picture"),
        (b"\0\0\0\x18ftypisom" + bytes(50), "a video"),
        (b"<html>", "text"),
        (b'{"image": "aGVsbG8="}', "text"),
        (b"data:image/png;base64,iVBORw0KGgo=", "a data URL"),
        (b"%PDF-1.7", "a PDF"),
        (b"hello", "no known type"),
        (b"\0", "no known type"),
    ],
)
def test_the_error_of_another_kind_of_file_names_its_kind(data: bytes, found: str) -> None:
    with pytest.raises(NotAnImageError, match=f"the body is {found} .*JPEG, PNG, WebP, BMP and TIFF are accepted"):
        decode(data, LIMITS)


def test_threads_decode_concurrently() -> None:
    wanted = {name: decode(data, LIMITS).pixels for name, (data, _, _) in files().items()}
    wrong: list[str] = []

    def work() -> None:
        for name, (data, _, _) in files().items():
            if (decode(data, LIMITS).pixels != wanted[name]).any():
                wrong.append(name)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_only_small_baseline_jpegs_are_quick() -> None:
    _, file = recognise(encoded(photo(640, 480)), ImageLimits())
    assert file is not None
    assert file.quick
    slow = [
        encoded(photo(640, 480), progressive=True),  # each scan may visit every block
        encoded(photo(1200, 900)),
        encoded(photo(640, 480)) + bytes(500_000),
    ]
    files = [recognise(data, ImageLimits())[1] for data in slow]
    assert [file is not None and file.quick for file in files] == [False] * len(slow)


def test_only_light_jpegs_are_decoded_in_this_process() -> None:
    large = photo(2500, 2000)
    assert recognise(encoded(large), ImageLimits())[1] is not None
    assert recognise(encoded(large, progressive=True), ImageLimits()) == ("JPEG", None)
    assert recognise(encoded(photo(64, 64), "PNG"), ImageLimits()) == ("PNG", None)
    decoded = decode(encoded(large, progressive=True, quality=95), ImageLimits(), needs=(1250, 1000))
    assert (decoded.width, decoded.height, decoded.scale) == (2500, 2000, 2)
    assert np.abs(decoded.pixels - rgb(large.reduce(2))).mean() < 3
