"""Tag directories, which TIFF files and EXIF metadata have in common (TIFF 6.0, section 2)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_UNIT_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_UNSIGNED = {1: "u1", 3: "u2", 4: "u4"}
_ORIENTATION = 0x0112
_MAX_TAGS = 1024
"""Cameras write about a hundred; the format allows 65,535, which cost half a second to read."""


class TagError(ValueError):
    """The bytes are not a tag directory."""


@dataclass(frozen=True, slots=True)
class Tag:
    """One entry of a directory.

    kind: its TIFF data type. count: how many values. size: their bytes. place: where in the file they are.
    entry: the 12 bytes as stored.
    """

    number: int
    kind: int
    count: int
    size: int
    place: int
    entry: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Directory:
    """The first directory of a file. order: its byte order, "<" or ">". tags: by number; of two, the first."""

    data: memoryview
    order: str
    tags: dict[int, Tag]

    def values(self, number: int) -> NDArray[np.int64]:
        """The values of a tag; none where it is missing or has no unsigned integers."""
        tag = self.tags.get(number)
        if tag is None or tag.kind not in _UNSIGNED:
            return np.zeros(0, np.int64)
        return np.frombuffer(self.data, self.order + _UNSIGNED[tag.kind], tag.count, tag.place).astype(np.int64)

    def first(self, number: int, default: int = 0) -> int:
        """The first value of a tag, or `default` where there is none."""
        values = self.values(number)
        return int(values[0]) if len(values) else default


def read_directory(data: memoryview) -> Directory:
    """The first directory of a TIFF file or an EXIF block. Tags of unknown kinds are left out.

    Raises TagError where the directory or the values of a tag are not within `data`.
    """
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None or len(data) < 8:
        raise TagError("there is no header")
    version, start = struct.unpack_from(f"{order}HI", data, 2)
    if version != 42:
        raise TagError(f"version {version} is not the classic 42")
    if start + 2 > len(data):
        raise TagError(f"the first directory should be at byte {start} of {len(data)}")
    (length,) = struct.unpack_from(f"{order}H", data, start)
    if length > _MAX_TAGS:
        raise TagError(f"the first directory has {length} tags, at most {_MAX_TAGS} are read")
    if start + 2 + 12 * length > len(data):
        raise TagError(f"the first directory has {length} tags, for which its {len(data)} bytes are too few")
    tags: dict[int, Tag] = {}
    for at in range(start + 2, start + 2 + 12 * length, 12):
        tag = _read_tag(data, order, at)
        if tag is not None:
            tags.setdefault(tag.number, tag)
    return Directory(data, order, tags)


def _read_tag(data: memoryview, order: str, at: int) -> Tag | None:
    number, kind, count, offset = struct.unpack_from(f"{order}HHII", data, at)
    if kind not in _UNIT_BYTES:
        return None
    size = count * _UNIT_BYTES[kind]
    place = at + 8 if size <= 4 else offset
    if place + size > len(data):
        raise TagError(f"the {size} bytes of tag {number} should be at byte {place} of {len(data)}")
    return Tag(number, kind, count, size, place, bytes(data[at : at + 12]))


def read_orientation(exif: memoryview) -> int:
    """The EXIF orientation, 1..8. Metadata that says nothing sensible means 1, as every viewer takes it."""
    try:
        orientation = read_directory(exif).first(_ORIENTATION)
    except TagError:
        return 1
    return orientation if 1 <= orientation <= 8 else 1
