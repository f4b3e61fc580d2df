"""Listing the images and videos of a folder, an archive or a text file, in a stable order."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Literal

from engines.files import read_small, shown, without_mark
from service.formats.coco import image_ids
from service.offline.bulk.errors import BulkError
from service.offline.bulk.zips import read_directory

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
VIDEOS = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp"})
NOWHERE = ""
"""The `at` of entries that cannot be located: a folder that cannot be read, or the lost part of an archive."""

Kind = Literal["folder", "list", "zip", "tar"]

_MOST_INFLATION = 100
"""Largest compression ratio of a video in a zip. Videos are compressed already; higher ratios are zip bombs."""
_LONGEST_LIST = 1 << 30
_START_BYTES = 4096
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_OTHER_ARCHIVES = (b"7z\xbc\xaf\x27\x1c", b"Rar!")
_UNSOUND_TAR = (tarfile.TarError, ValueError, OverflowError, MemoryError, RecursionError, IndexError, EOFError)
"""Exceptions of tarfile for headers that it cannot read."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of the source. number: index in the listing. name: its name in results, see `engines.files.shown`.

    at: location in the source: a path, an index in the zip's directory, or the offset of its bytes in the tar.
    size: bytes. stamp: detects changes: modification time in ns, or the CRC-32 of a zip's member.
    image_id: its number in COCO results. problem: why it cannot be read, if the listing already shows that.
    """

    number: int
    name: str
    at: str | int
    size: int
    stamp: int
    image_id: int = 0
    problem: str = ""

    @property
    def video(self) -> bool:
        return _suffix(self.name) in VIDEOS


@dataclass(slots=True)
class LeftOut:
    """Number of files that are hidden or neither images nor videos, and of folders that are links."""

    files: int = 0
    folders: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """All files to process, and the number of those left out."""

    kind: Kind
    root: Path
    entries: tuple[SourceFile, ...]
    left_out: LeftOut

    @property
    def sha256(self) -> str:
        """A digest that changes with any file's name, location, size or time."""
        digest = hashlib.sha256()
        for entry in self.entries:
            digest.update(repr(astuple(entry)).encode("utf-8", "backslashreplace"))
        return digest.hexdigest()


def list_source(source: Path, apart: Path) -> Listing:
    """List the files of a folder and its subfolders, of a .zip or .tar, or the files in a text file, one per line.

    apart: the folder of results, which is skipped. Raises BulkError for other sources and if there are no files.
    """
    left_out = LeftOut()
    try:
        kind = _kind(source)
        read = {"folder": _folder, "list": _list, "zip": _zip, "tar": _tar}[kind]
        found = list(read(source, apart, left_out))
    except OSError as error:
        raise BulkError(f"{shown(source)} cannot be read: {error.strerror or 'it cannot be read from'}") from error
    except RecursionError as error:
        raise BulkError(f"{shown(source)} has folders in folders too deep to be listed") from error
    if not found:
        raise BulkError(f"there is no image and no video in {shown(source)} ({left_out.files} other files)")
    entries = tuple(replace(e, number=n) for n, e in enumerate(found))
    return Listing(kind, Path(os.path.realpath(source)), _with_ids(entries), left_out)


def _kind(source: Path) -> Kind:
    name, suffix = shown(source), _suffix(source.name)
    if source.is_dir():
        return "folder"
    if suffix in IMAGES | VIDEOS:
        what = "posewire image" if suffix in IMAGES else "posewire video"
        raise BulkError(f"{name} is a single file; use {what}, or name a folder, a .zip, a .tar or a list of files")
    if not stat.S_ISREG(source.stat().st_mode):
        raise BulkError(f"{name} is a pipe or a device; write the list of files to a file")
    with source.open("rb") as file:
        start = file.read(_START_BYTES)
    # A tar can end with a zip that it contains, so test for tars first.
    if suffix == ".tar" or start[257:262] == b"ustar" or _is_tar_header(start[: tarfile.BLOCKSIZE]):
        return "tar"
    if suffix == ".zip" or start.startswith(b"PK\x03\x04") or zipfile.is_zipfile(source):
        return "zip"
    if start.startswith(_COMPRESSED):
        raise BulkError(
            f"{name} is compressed as a whole, so no file of it can be read alone; unpack it and name the folder, "
            "or make it a .tar with gunzip, bunzip2, unxz or unzstd"
        )
    if start.startswith(_OTHER_ARCHIVES):
        raise BulkError(f"{name} is a 7z or RAR archive, which is not read; unpack it and name the folder")
    if b"\0" in start and not start.startswith(_WIDE_MARKS):
        raise BulkError(f"{name} is no folder, no .zip, no .tar and no list of files")
    return "list"


def _is_tar_header(block: bytes) -> bool:
    """True if a block has the checksum of a tar header. The oldest tars have no other signature."""
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except _UNSOUND_TAR:
        return False
    return True


def _folder(root: Path, apart: Path, left_out: LeftOut) -> Iterator[SourceFile]:
    """List a folder in the order of paths, without hidden files and linked folders."""
    away = os.path.realpath(apart)
    closed: list[SourceFile] = []

    def note(error: OSError) -> None:
        if error.filename == str(root):
            raise error
        name = f"{shown(os.path.relpath(error.filename, root))}/"
        closed.append(_lost(name, f"is a folder that cannot be read: {error.strerror}"))

    for folder, folders, files in os.walk(root, onerror=note):
        yield from closed
        closed.clear()
        here = Path(folder)
        linked = {name for name in folders if (here / name).is_symlink()}
        left_out.folders += len(linked)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in linked and os.path.realpath(here / name) != away
        )
        for name in sorted(files):
            inside = (here / name).relative_to(root).as_posix()
            if not name.startswith(".") and _is_wanted(inside):
                yield _file(root / inside, inside)
            else:
                left_out.files += 1
    yield from closed


def _list(source: Path, _: Path, __: LeftOut) -> Iterator[SourceFile]:
    """List all files that a text file names, of any type. Names need not be UTF-8. Blanks around a name are dropped
    unless the file exists only under the name with blanks.
    """
    try:
        text = without_mark(read_small(source, _LONGEST_LIST))
    except UnicodeDecodeError as error:
        raise BulkError(f"{shown(source)} is not a list of files in UTF-8 or UTF-16") from error
    for line in text.split(b"\n"):
        exact = line.removesuffix(b"\r")
        name = exact.strip()
        if name and not name.startswith(b"#"):
            spare = os.fsdecode(exact)
            entry = _file(source.parent / os.fsdecode(name), os.fsdecode(name))
            if exact != name and entry.problem and (source.parent / spare).exists():
                entry = _file(source.parent / spare, spare)
            yield entry


def _file(path: Path, name: str) -> SourceFile:
    try:
        status = path.stat()
    except OSError as error:
        return SourceFile(0, shown(name), name, 0, 0, problem=f"cannot be read: {error.strerror}")
    except ValueError:  # the name has a byte of 0
        return _lost(shown(name), "cannot be the name of a file")
    problem = "" if stat.S_ISREG(status.st_mode) else "is not a file"
    return SourceFile(0, shown(name), name, status.st_size, status.st_mtime_ns, problem=problem)


def _lost(name: str, problem: str) -> SourceFile:
    return SourceFile(0, name, NOWHERE, 0, 0, problem=problem)


def _zip(source: Path, _: Path, left_out: LeftOut) -> Iterator[SourceFile]:
    with source.open("rb") as file:
        members, expected = read_directory(file)
    for index, member in enumerate(members):
        name = str(PurePosixPath(member.name))
        if member.folder or not _is_wanted(name):
            left_out.files += not member.folder
            continue
        problem = _stray(name) or member.problem
        if not problem and _suffix(name) in VIDEOS and member.size > _MOST_INFLATION * (member.packed + 1024):
            problem = f"would unpack to {member.size:,} bytes from {member.packed:,}, which no video does"
        yield SourceFile(0, name, index, member.size, member.crc, problem=problem)
    if len(members) < expected:
        found = f"{len(members):,} of {expected:,}"
        yield _lost(shown(source.name), f"is not whole: its directory names {found} members")


def _tar(source: Path, _: Path, left_out: LeftOut) -> Iterator[SourceFile]:
    whole = source.stat().st_size
    with _open_tar(source) as archive:
        end, sound = 0, True
        while sound and (info := _next_member(archive)) is not None:
            sound = info.offset >= end and info.size >= 0  # a negative size would lead back in an endless loop
            if not sound:
                break
            end = archive.offset
            name = str(PurePosixPath(shown(info.name.encode("utf-8", "surrogateescape"))))
            if info.isdir() or not _is_wanted(name):
                left_out.files += not info.isdir()
                continue
            problem = _stray(name)
            if not info.isreg() or info.issparse():
                problem = "is a link, a sparse file or a device in the archive; only plain files are read"
            elif info.offset_data + info.size > whole:
                problem = "is cut off: the archive ends in the middle of it"
            time = int(info.mtime) if isfinite(info.mtime) else 0
            yield SourceFile(0, name, info.offset_data, info.size, time, problem=problem)
        end = max(end, archive.offset)
        if not sound or (end != whole and not _ends(source, end)):
            yield _lost(shown(source.name), f"is not whole: what comes after {end:,} bytes cannot be told")


def _open_tar(source: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(source, "r:", encoding="utf-8", errors="surrogateescape")
    except _UNSOUND_TAR as error:
        raise BulkError(f"{shown(source)} is not a tar archive, or is damaged at its beginning") from error


def _next_member(archive: tarfile.TarFile) -> tarfile.TarInfo | None:
    """The next member; None at the end and at a damaged header."""
    try:
        info = archive.next()
    except (*_UNSOUND_TAR, OSError):
        return None
    archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep all members in memory
    return info


def _ends(archive: Path, offset: int) -> bool:
    """True if a tar has its end-of-archive block at this offset."""
    with archive.open("rb") as file:
        file.seek(offset)
        return file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)


def _stray(name: str) -> str:
    """The problem with a member's name, or "". Nothing is written under it here, but users of results may do so."""
    inside = PurePosixPath(name.replace("\\", "/"))
    return "has a name that leads out of the archive" if inside.is_absolute() or ".." in inside.parts else ""


def _is_wanted(name: str) -> bool:
    """True if a name is that of an image or a video. macOS adds a file `._x` for each `x`, in archives under
    `__MACOSX`; these are skipped.
    """
    path = PurePosixPath(name)
    return _suffix(name) in IMAGES | VIDEOS and "__MACOSX" not in path.parts and not path.name.startswith("._")


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _with_ids(entries: tuple[SourceFile, ...]) -> tuple[SourceFile, ...]:
    """Set the image ids: the numbers in the names if all images have different ones, as in COCO; otherwise indices."""
    images = [entry for entry in entries if not entry.video and entry.at != NOWHERE]
    ids = image_ids([PurePosixPath(entry.name).stem for entry in images], [entry.number for entry in images])
    by_number = {entry.number: image_id for entry, image_id in zip(images, ids, strict=True)}
    return tuple(replace(entry, image_id=by_number.get(entry.number, 0)) for entry in entries)
