"""Which kind of file some bytes are, by their first bytes."""

from __future__ import annotations

from collections.abc import Collection

from service.media.errors import NotAnImageError

IMAGES = ("JPEG", "PNG", "WebP", "BMP", "TIFF")
FRAMES = ("JPEG", "PNG", "WebP")
"""What a stream takes."""

# Offset of the mark, mark, name.
_MARKS = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (8, b"WEBP", "WebP"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),  # BigTIFF
    (0, b"MM\0+", "TIFF"),
)
# What people send by mistake.
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


def kind_of(data: bytes | memoryview, accepted: Collection[str] = IMAGES) -> str:
    """The kind of an image file, one of `accepted`. Raises NotAnImageError for any other."""
    head = bytes(data[:16])
    found = _match(head, _MARKS)
    if found == "WebP" and not head.startswith(b"RIFF"):
        found = None
    if found is not None and found in accepted:
        return found
    named = f"a {found} picture" if found else _match(head, _STRANGERS) or "no known type"
    *others, last = accepted
    raise NotAnImageError(
        f"the body is {named} (it begins with the bytes {head[:8].hex(' ')}); {', '.join(others)} and {last} are "
        "accepted here"
    )


def _match(head: bytes, marks: tuple[tuple[int, bytes, str], ...]) -> str | None:
    return next((name for at, mark, name in marks if head.startswith(mark, at)), None)
