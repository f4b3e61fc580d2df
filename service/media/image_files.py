"""Image files before they are decoded: errors, limits, kinds and the EXIF orientation.

Decoder processes import this module, so it needs neither numpy nor OpenCV.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass


class ImageError(ValueError):
    """The image cannot be used. The message is for the client and says what is wrong and what to do."""


class ImageTooLargeError(ImageError):
    """More bytes or pixels than the limits allow (HTTP 413)."""


class NotAnImageError(ImageError):
    """Not a file of an accepted type (HTTP 415)."""


class UndecodableImageError(ImageError):
    """A file of an accepted type that is empty, truncated or corrupt (HTTP 400)."""


def truncated(kind: str, where: str) -> UndecodableImageError:
    """Return the error for a file of this kind that ends too early."""
    return UndecodableImageError(f"truncated {kind}: {where}; send the whole file")


def corrupt(kind: str, what: str) -> UndecodableImageError:
    """Return the error for a file of this kind whose content is invalid."""
    return UndecodableImageError(f"corrupt {kind}: {what}; export it again")


_SCALES = (8, 4, 2)
"""The scales with vectorised transforms in libjpeg-turbo. Decoding at 7/8 .. 5/8 takes longer than at full size."""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Limits that are checked before decoding. max_side: pixels of the longer side."""

    max_bytes: int = 20_000_000
    max_pixels: int = 25_000_000
    max_side: int = 16_384

    def check_bytes(self, size: int) -> None:
        """Raise UndecodableImageError for an empty file and ImageTooLargeError for one with too many bytes."""
        if not size:
            raise UndecodableImageError("there is no image: the body is empty; send the bytes of an image file")
        if size > self.max_bytes:
            raise ImageTooLargeError(
                f"the image has {size:,} bytes, at most {self.max_bytes:,} are accepted; send it smaller"
            )

    def check_size(self, width: int, height: int) -> None:
        """Raise UndecodableImageError for an image without pixels and ImageTooLargeError for one with too many."""
        if width < 1 or height < 1:
            raise corrupt("image", f"its header says {width} x {height} pixels")
        if width * height > self.max_pixels or max(width, height) > self.max_side:
            raise ImageTooLargeError(
                f"the image has {width:,} x {height:,} pixels, at most {self.max_pixels:,} in all and "
                f"{self.max_side:,} a side are accepted; send it smaller"
            )


def possible_scales(width: int, height: int, needs: tuple[int, int] | None) -> Iterator[int]:
    """Yield the factors by which an image can be reduced and still fill `needs` (width, height) along one side.

    Largest first; the last one is 1. needs: None to keep every pixel.
    """
    if needs is not None:
        yield from (scale for scale in _SCALES if width // scale >= needs[0] or height // scale >= needs[1])
    yield 1


IMAGES = ("JPEG", "PNG", "WebP", "BMP", "TIFF")
FRAMES = ("JPEG", "PNG", "WebP")
"""Kinds that streams accept."""

# Offset of the signature, signature, name.
_SIGNATURES = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (8, b"WEBP", "WebP"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),  # BigTIFF
    (0, b"MM\0+", "TIFF"),
)
# Files that people send by mistake.
_OTHER_FILES = (
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


def kind_of(data: bytes | memoryview, accepted: Collection[str] = IMAGES) -> str:
    """Determine a file's kind from its first bytes. Raises NotAnImageError for kinds that are not `accepted`."""
    head = bytes(data[:16])
    found = _match(head, _SIGNATURES)
    if found == "WebP" and not head.startswith(b"RIFF"):
        found = None
    if found is not None and found in accepted:
        return found
    named = f"a {found} picture" if found else _match(head, _OTHER_FILES) or "no known type"
    *others, last = accepted
    raise NotAnImageError(
        f"the body is {named} (it begins with the bytes {head[:8].hex(' ')}); {', '.join(others)} and {last} are "
        "accepted here"
    )


def _match(head: bytes, signatures: tuple[tuple[int, bytes, str], ...]) -> str | None:
    return next((name for at, signature, name in signatures if head.startswith(signature, at)), None)


_ORIENTATION = 0x0112
_ENTRY_BYTES = 12
_MAX_ENTRIES = 512
"""Cameras write about a hundred entries; the format allows 65,535."""


def read_orientation(exif: bytes | memoryview) -> int | None:
    """Return the EXIF orientation, 1..8, or None if the metadata has none.

    exif: a block in TIFF format, with or without `Exif\\0\\0` before it. Only the orientation in the first directory
    is read, so the metadata may be damaged elsewhere or cut off. As in OpenCV, the first two bytes of the entry's value
    are used, whatever type the entry declares.
    """
    block = memoryview(exif)
    if bytes(block[:6]) == b"Exif\0\0":
        block = block[6:]
    order = {b"II": "<", b"MM": ">"}.get(bytes(block[:2]))
    if order is None or len(block) < 10:
        return None
    version, start = struct.unpack_from(f"{order}HI", block, 2)
    if version != 42 or start + 2 > len(block):
        return None
    (count,) = struct.unpack_from(f"{order}H", block, start)
    first = start + 2
    whole = min(count, (len(block) - first) // _ENTRY_BYTES, _MAX_ENTRIES)
    for entry in range(first, first + whole * _ENTRY_BYTES, _ENTRY_BYTES):
        tag, orientation = struct.unpack_from(f"{order}H6xH", block, entry)
        if tag == _ORIENTATION:
            return int(orientation) if 1 <= orientation <= 8 else None
    return None
