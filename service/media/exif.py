"""The one thing that decoding needs of EXIF metadata: how the picture is turned."""

from __future__ import annotations

import struct

_ORIENTATION = 0x0112
_ENTRY_BYTES = 12
_MAX_ENTRIES = 512
"""Cameras write about a hundred; the format allows 65,535."""


def read_orientation(exif: bytes | memoryview) -> int | None:
    """The EXIF orientation, 1..8; None where the metadata gives none.

    exif: a block in TIFF format, with or without `Exif\\0\\0` before it. Only the entries of the first directory are
    looked at, and of these only the orientation: the metadata may be damaged anywhere else, or cut off. As in OpenCV,
    the first two bytes of the entry's value count, whatever type the entry says they have.
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
