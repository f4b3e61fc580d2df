"""Extracts single files from zips, wheels and tarballs. Names in an archive are only compared, never used as paths."""

from __future__ import annotations

import lzma
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path

from engines.catalogue.fetch.sources import FetchError, File

MAX_MEMBER_BYTES = 4 << 30
"""The largest file that is extracted: larger than any model, as a guard against zip bombs."""
MAX_TAR_MEMBERS = 100_000
"""The most files of a tarball that is read: more than any package has."""
_MAX_TAR_HEADER = 1 << 20
"""The longest name, or other extension of a tar header, in bytes. tarfile reads it into memory."""

UNSOUND_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    IndexError,
    MemoryError,
    RuntimeError,
)
"""The exceptions from reading broken zips. RuntimeError includes NotImplementedError, which zips with unsupported
encryption or compression raise.
"""


def take(archive: Path, file: File, target: Path, *, origin: str) -> None:
    """Write `file` of the zip at `archive` to `target`, whatever the archive calls it.

    Its path, and that of the zip inside the archive that it may be in, is a member's full path, or the end of it
    (`end2end.onnx` of `2023/rtmpose/end2end.onnx`) if that is unique.
    Raises FetchError, which names `origin`, if there is no such member or a zip is broken.
    """
    if file.archive is None:
        _take(archive, file.path, target, origin)
        return
    inner = target.with_name(f"{target.name}.archive")
    _take(archive, file.archive, inner, origin)
    _take(inner, file.path, target, f"{file.archive} of {origin}")
    inner.unlink()


def _take(archive: Path, member: str, target: Path, origin: str) -> None:
    try:
        with zipfile.ZipFile(archive) as content:
            info = _find(content, member, origin)
            if info.file_size > MAX_MEMBER_BYTES:
                raise FetchError(f"{member} in {origin} is larger than {MAX_MEMBER_BYTES >> 30} GiB")
            with content.open(info) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
    except UNSOUND_ZIP as error:
        why = f": the checksum of {member} is wrong" if "CRC" in str(error) else ""
        raise FetchError(
            f"what {origin} gave is not a sound zip{why}",
            "a source that is the model file itself must end in that file's name",
        ) from error


def _find(content: zipfile.ZipFile, member: str, origin: str) -> zipfile.ZipInfo:
    members = {info.filename: info for info in content.infolist() if not info.filename.endswith("/")}
    if member in members:
        return members[member]
    fitting = [name for name in members if name.endswith(f"/{member}")]
    if len(fitting) == 1:
        return members[fitting[0]]
    what = f"{len(fitting)} files that end in" if fitting else "no file"
    raise FetchError(f"{origin} holds {what} {member}", "correct `files` in the catalogue")


def zip_members(tarball: Path, members: Collection[str], target: Path, *, origin: str) -> Path:
    """Copy regular files of the gzipped tar at `tarball` to a new zip at `target`, for `take`; returns its path.

    members: their paths, or the ends of them. Others are passed over, as are links, and the tarball is read once, as a
    stream. Raises FetchError, which names `origin`, if it is broken or larger than any model.
    """
    ends = tuple(f"/{member}" for member in members)
    kept = set[str]()
    try:
        with (
            tarfile.open(tarball, "r|gz", tarinfo=_TarHeader) as content,
            zipfile.ZipFile(target, "w") as sink,
        ):
            for count, info in enumerate(content):
                if count >= MAX_TAR_MEMBERS or info.offset_data + info.size > MAX_MEMBER_BYTES:
                    raise FetchError(f"{origin} is larger than any model: it is not unpacked")
                if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.name in kept:
                    continue
                if f"/{info.name}".endswith(ends) and (source := content.extractfile(info)):
                    kept.add(info.name)
                    with sink.open(zipfile.ZipInfo(info.name), "w", force_zip64=True) as copy:
                        shutil.copyfileobj(source, copy, 1 << 20)
    except (tarfile.TarError, zlib.error, EOFError, ValueError) as error:
        raise FetchError(f"what {origin} gave is not a sound tarball", "fetch again") from error
    return target


class _TarHeader(tarfile.TarInfo):
    """A header whose extensions are not read into memory if they are long."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _TarHeader:
        header = super().frombuf(buf, encoding, errors)
        if header.type not in tarfile.REGULAR_TYPES and header.size > _MAX_TAR_HEADER:
            raise FetchError("the archive has a name that is too long")
        return header
