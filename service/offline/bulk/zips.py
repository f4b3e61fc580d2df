"""Reading a zip's directory record by record, so that an invalid record affects only its member.

`zipfile` refuses a whole archive for one name that is not UTF-8, one damaged extra field or one unknown version. Only
its reader of a member's bytes is used here.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from engines.files import shown
from service.offline.bulk.errors import BulkError, UnreadableError

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_RECORD = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_LONGEST_COMMENT = 0xFFFF
_ELSEWHERE = 0xFFFFFFFF
"""The value of a field whose number did not fit and is in the ZIP64 extra field."""
_ZIP64, _UNICODE_PATH = 0x0001, 0x7075
_ENCRYPTED, _UTF8 = 0x1, 0x800
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA})
_OTHER_METHODS = {9: "Deflate64", 93: "Zstandard", 95: "XZ", 98: "PPMd", 99: "AES"}


@dataclass(frozen=True, slots=True)
class Member:
    """A member according to the directory. name: see `engines.files.shown`. packed, size: bytes in the archive, and
    unpacked. offset: position of its local header. problem: why it cannot be read, if the directory shows that.
    """

    name: str
    folder: bool
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    problem: str = ""


def read_directory(file: BinaryIO) -> tuple[list[Member], int]:
    """Read a zip's directory as far as possible. Returns the members, in order, and how many the archive declares.

    Raises BulkError for a file without a directory, and OSError.
    """
    length = file.seek(0, os.SEEK_END)
    tail_at = max(0, length - _END.size - _LONGEST_COMMENT)
    file.seek(tail_at)
    tail = file.read()
    at = _find_end(tail)
    if at is None:
        raise BulkError(
            f"{shown(file.name)} is not a whole zip archive: its directory, which comes last, is missing; "
            "copy it again, or save what is in it with zip -FF"
        )
    _, disk, first_disk, _, count, size, start, _ = _END.unpack_from(tail, at)
    end = tail_at + at
    if disk not in (0, 0xFFFF) or first_disk not in (0, 0xFFFF):
        raise BulkError(f"{shown(file.name)} is one part of a zip in several; join them with zip -s 0 IN --out OUT")
    if (large := _read_end_64(file, end)) is not None:
        end, count, size, start = large
    # Offsets are too small if bytes were put before the archive, as in self-extracting ones.
    shift = end - size - start
    if shift < 0 or not _is_record(file, end - size):
        shift = 0
    file.seek(start + shift)
    return _records(file.read(max(0, end - start - shift)), shift), count


def open_member(handle: int, member: Member) -> zipfile.ZipExtFile:
    """Open a member of the archive with the file descriptor `handle`. Reading verifies the checksum. Raises
    UnreadableError if there is no member at its offset.
    """
    header = os.pread(handle, _LOCAL.size, member.offset) if member.offset < 1 << 62 else b""
    if len(header) < _LOCAL.size or not header.startswith(b"PK\x03\x04"):
        raise UnreadableError("is not where the archive's directory says; the archive is damaged")
    *_, name_length, extra_length = _LOCAL.unpack(header)
    info = zipfile.ZipInfo()
    info.compress_type, info.CRC = member.method, member.crc
    info.compress_size, info.file_size = member.packed, member.size
    start = member.offset + _LOCAL.size + name_length + extra_length
    return zipfile.ZipExtFile(Stretch(handle, start, member.packed), "r", info)


class Stretch:
    """`size` bytes of an open file from `start` on. Threads may read different stretches of one file at once."""

    def __init__(self, handle: int, start: int, size: int) -> None:
        self._handle = handle
        self._at = start
        self._end = start + size

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes."""
        data = os.pread(self._handle, min(size, self._end - self._at), self._at)
        self._at += len(data)
        return data


def _find_end(tail: bytes) -> int | None:
    """The position of the end-of-directory record in the last bytes of a zip."""
    at = len(tail)
    while (at := tail.rfind(b"PK\x05\x06", 0, at)) >= 0:
        if at + _END.size <= len(tail) and at + _END.size + _END.unpack_from(tail, at)[-1] <= len(tail):
            return at
    return None


def _read_end_64(file: BinaryIO, end: int) -> tuple[int, int, int, int] | None:
    """The directory's end, number of records, size and start in a ZIP64 archive; None in others."""
    at = end - _LOCATOR.size - _END_64.size
    if at < 0:
        return None
    file.seek(at)
    both = file.read(_END_64.size + _LOCATOR.size)
    if not both.startswith(b"PK\x06\x06") or both[_END_64.size :][:4] != b"PK\x06\x07":
        return None
    *_, count, size, start = _END_64.unpack_from(both)
    return at, count, size, start


def _is_record(file: BinaryIO, at: int) -> bool:
    file.seek(at)
    return file.read(4) in (b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06")  # the latter two in an empty archive


def _records(directory: bytes, shift: int) -> list[Member]:
    members = []
    at = 0
    while at + _RECORD.size <= len(directory) and directory.startswith(b"PK\x01\x02", at):
        record = _RECORD.unpack_from(directory, at)
        name_length, extra_length, comment_length = record[10:13]
        at += _RECORD.size
        name, extra = directory[at : at + name_length], directory[at + name_length :][:extra_length]
        members.append(_member(record, name, extra, shift))
        at += name_length + extra_length + comment_length
    return members


def _member(record: tuple[int, ...], raw: bytes, extra: bytes, shift: int) -> Member:
    flags, method, crc, packed, size = record[3], record[4], record[7], record[8], record[9]
    mode, offset = record[15] >> 16, record[16]
    extras = _extras(extra)
    problem = ""
    if _ELSEWHERE in (packed, size, offset):
        wide = extras.get(_ZIP64, b"")
        numbers = list(struct.unpack(f"<{len(wide) // 8}Q", wide[: len(wide) // 8 * 8]))[::-1]
        try:
            size, packed, offset = (numbers.pop() if n == _ELSEWHERE else n for n in (size, packed, offset))
        except IndexError:
            problem = "has a damaged record in the archive's directory"
    if flags & _ENCRYPTED:
        problem = "is encrypted"
    elif method not in _METHODS:
        called = f" ({_OTHER_METHODS[method]})" if method in _OTHER_METHODS else ""
        problem = f"is compressed by method {method}{called}, which is not read here; store or deflate it"
    elif stat.S_ISLNK(mode):
        problem = "is a link in the archive; only plain files are read"
    name = _name(raw, flags, extras)
    return Member(name, raw.endswith(b"/"), method, crc, packed, size, offset + shift, problem)


def _extras(extra: bytes) -> Mapping[int, bytes]:
    """The extra fields by kind. Damaged ones are left out, as few of them matter."""
    found: dict[int, bytes] = {}
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        found.setdefault(kind, extra[4 : 4 + length])
        extra = extra[4 + length :]
    return found


def _name(raw: bytes, flags: int, extras: Mapping[int, bytes]) -> str:
    """Decode a name: Unicode if the archive has it or the bytes are UTF-8, otherwise CP437, the format's default."""
    unicode = extras.get(_UNICODE_PATH, b"")
    if unicode[:1] == b"\x01" and unicode[1:5] == struct.pack("<L", zlib.crc32(raw)):
        return shown(unicode[5:])
    try:
        raw.decode()
    except UnicodeDecodeError:
        if not flags & _UTF8:
            return shown(raw.decode("cp437").encode())
    return shown(raw)
