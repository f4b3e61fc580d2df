"""From the bytes a client sent to an RGB image, limits first."""

from __future__ import annotations

from dataclasses import dataclass

from service.imaging.bmp import BmpFile
from service.imaging.errors import (
    ImageError,
    ImageTooLargeError,
    NotAnImageError,
    UndecodableImageError,
    corrupt,
)
from service.imaging.jpeg import JpegFile
from service.imaging.png import PngFile
from service.imaging.reduce import reduced
from service.imaging.stored import DecodedImage, StoredImage
from service.imaging.tiff import TiffFile
from service.imaging.webp import WebpFile

__all__ = [
    "DecodedImage",
    "ImageError",
    "ImageTooLargeError",
    "Limits",
    "NotAnImageError",
    "UndecodableImageError",
    "decode",
    "decode_if_quick",
]

_FORMATS = (JpegFile, PngFile, WebpFile, BmpFile, TiffFile)
_QUICK_BYTES, _QUICK_PIXELS = 500_000, 1_000_000
_ACCEPTED = "JPEG, PNG, WebP, BMP and TIFF are accepted"

# What people send by mistake: (offset of the mark, mark, name).
_STRANGERS = (
    (0, b"GIF8", "a GIF"),
    (4, b"ftypavi", "an AVIF picture"),
    (4, b"ftyphei", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIC picture"),
    (4, b"ftyp", "a video"),
    (0, b"\x1aE\xdf\xa3", "a video"),
    (0, b"%PDF", "a PDF"),
    (0, b"<", "text"),
    (0, b"{", "text"),
    (0, b"data:", "a data URL"),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused before anything is decoded. max_side: the longer side, in pixels."""

    max_bytes: int = 20_000_000
    max_pixels: int = 25_000_000
    max_side: int = 16_384


def decode(data: bytes | memoryview, limits: Limits, *, needs: tuple[int, int] | None = None) -> DecodedImage:
    """Decode an image; the type is told by the bytes themselves.

    needs: the (width, height) that the picture is to be fitted into; it comes at 1/2, 1/4 or 1/8 of its size while that
    still fills it along one side. None: every pixel, as exact as for the eye.
    Raises ImageTooLargeError from the header alone, before memory is taken; NotAnImageError for other types;
    UndecodableImageError for an empty, truncated or corrupt file. Never returns a part of a picture.

    May be called from many threads at once; the decoders let go of the interpreter lock.
    """
    return reduced(_read_header(data, limits).decode(needs), needs)


def decode_if_quick(
    data: bytes | memoryview, limits: Limits, *, needs: tuple[int, int] | None = None
) -> DecodedImage | None:
    """As `decode`, but only where that takes at most some 2 ms of one core, however hostile the file is; else None."""
    if len(data) > _QUICK_BYTES:
        return None
    stored = _read_header(data, limits)
    small = stored.width * stored.height <= _QUICK_PIXELS
    if not small or not isinstance(stored, JpegFile) or stored.has_many_scans:
        return None
    return reduced(stored.decode(needs), needs)


def _read_header(data: bytes | memoryview, limits: Limits) -> StoredImage:
    if not len(data):
        raise UndecodableImageError("there is no image: the body is empty; send the bytes of an image file")
    if len(data) > limits.max_bytes:
        raise ImageTooLargeError(
            f"the image has {len(data):,} bytes, at most {limits.max_bytes:,} are accepted; send it smaller"
        )
    stored = _recognise(data)
    _check_size(stored, limits)
    return stored


def _recognise(data: bytes | memoryview) -> StoredImage:
    for kind in _FORMATS:
        if kind.matches(data):
            return kind.read(data)
    found = next((name for at, mark, name in _STRANGERS if bytes(data[at : at + len(mark)]) == mark), "no known type")
    raise NotAnImageError(f"the body is {found} (it begins with the bytes {bytes(data[:8]).hex(' ')}); {_ACCEPTED}")


def _check_size(stored: StoredImage, limits: Limits) -> None:
    width, height = stored.width, stored.height
    if width < 1 or height < 1:
        raise corrupt("image", f"its header says {width} x {height} pixels")
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise ImageTooLargeError(
            f"the image has {width:,} x {height:,} pixels, at most {limits.max_pixels:,} in all and "
            f"{limits.max_side:,} a side are accepted; send it smaller"
        )
