"""What there is to do: the images and videos of a folder, an archive or a list, in an order that stays."""

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
"""Where an entry is that cannot be found: a folder that cannot be read, or what an archive has lost."""

Kind = Literal["folder", "list", "zip", "tar"]

_MOST_INFLATION = 100
"""Videos are compressed already: one that a zip holds at a hundredth of its size is a trap."""
_LONGEST_LIST = 1 << 30
_START_BYTES = 4096
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_OTHER_ARCHIVES = (b"7z\xbc\xaf\x27\x1c", b"Rar!")
_UNSOUND_TAR = (tarfile.TarError, ValueError, OverflowError, MemoryError, RecursionError, IndexError, EOFError)
"""What tarfile raises at a header that it cannot read."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of the source. number: its place in the listing. name: what results call it, see `engines.files.shown`.

    at: where the source has it: a path, a place in the zip's directory, or the offset of its bytes in the tar.
    size: bytes. stamp: tells that a file has changed: its time of change in ns, or the CRC-32 of a zip's member.
    image_id: its number in COCO's results. problem: why it cannot be read, where the listing already shows that.
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
        """Whether it is a video; any other is an image."""
        return _suffix(self.name) in VIDEOS


@dataclass(slots=True)
class LeftOut:
    """How many files were neither images nor videos, or hidden, and how many folders were links."""

    files: int = 0
    folders: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """All there is to do, and what is not done."""

    kind: Kind
    root: Path
    entries: tuple[SourceFile, ...]
    left_out: LeftOut

    @property
    def sha256(self) -> str:
        """Differs where any file has another name, place, size or time."""
        digest = hashlib.sha256()
        for entry in self.entries:
            digest.update(repr(astuple(entry)).encode("utf-8", "backslashreplace"))
        return digest.hexdigest()


def list_source(source: Path, apart: Path) -> Listing:
    """The files of a folder and all below it, of a .zip or .tar, or those that a text file names, one a line.

    apart: the folder of results, of which nothing is taken. Raises BulkError for anything else and where nothing is.
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
    # A tar may end with a zip that it holds, so tars are told first.
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
    """Whether a block's checksum is that of a tar's header: the oldest tars have no other mark."""
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except _UNSOUND_TAR:
        return False
    return True


def _folder(root: Path, apart: Path, left_out: LeftOut) -> Iterator[SourceFile]:
    """In the order of their paths; hidden files, and folders that are links, are left out."""
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
    """All that it names, whatever that is. Names need not be UTF-8; blanks around one are dropped, unless only the
    name with them is there.
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
    except ValueError:  # a byte of 0 in the name
        return _lost(shown(name), "cannot be the name of a file")
    problem = "" if stat.S_ISREG(status.st_mode) else "is not a file"
    return SourceFile(0, shown(name), name, status.st_size, status.st_mtime_ns, problem=problem)


def _lost(name: str, problem: str) -> SourceFile:
    return SourceFile(0, name, NOWHERE, 0, 0, problem=problem)


def _zip(source: Path, _: Path, left_out: LeftOut) -> Iterator[SourceFile]:
    with source.open("rb") as file:
        directory = read_directory(file)
    for place, member in enumerate(directory.members):
        name = str(PurePosixPath(member.name))
        if member.folder or not _is_wanted(name):
            left_out.files += not member.folder
            continue
        problem = _stray(name) or member.problem
        if not problem and _suffix(name) in VIDEOS and member.size > _MOST_INFLATION * (member.packed + 1024):
            problem = f"would unpack to {member.size:,} bytes from {member.packed:,}, which no video does"
        yield SourceFile(0, name, place, member.size, member.crc, problem=problem)
    if len(directory.members) < directory.expected:
        found = f"{len(directory.members):,} of {directory.expected:,}"
        yield _lost(shown(source.name), f"is not whole: its directory names {found} members")


def _tar(source: Path, _: Path, left_out: LeftOut) -> Iterator[SourceFile]:
    whole = source.stat().st_size
    with _open_tar(source) as archive:
        end, sound = 0, True
        while sound and (info := _next_member(archive)) is not None:
            sound = info.offset >= end and info.size >= 0  # a negative size leads back, and would do so for ever
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
    """None at the end, be it the right one or not."""
    try:
        info = archive.next()
    except (*_UNSOUND_TAR, OSError):
        return None
    archive.members.clear()  # type: ignore[attr-defined]  # it would keep all that it has seen
    return info


def _ends(archive: Path, offset: int) -> bool:
    """Whether a tar has the mark of its end there."""
    with archive.open("rb") as file:
        file.seek(offset)
        return file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)


def _stray(name: str) -> str:
    """What is wrong with a member's name. Nothing is ever written under it, but whoever reads the results might."""
    inside = PurePosixPath(name.replace("\\", "/"))
    return "has a name that leads out of the archive" if inside.is_absolute() or ".." in inside.parts else ""


def _is_wanted(name: str) -> bool:
    """Whether a file is an image or a video by its name. macOS puts a file `._x` of its own beside each `x`, in
    archives under `__MACOSX`.
    """
    path = PurePosixPath(name)
    return _suffix(name) in IMAGES | VIDEOS and "__MACOSX" not in path.parts and not path.name.startswith("._")


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _with_ids(entries: tuple[SourceFile, ...]) -> tuple[SourceFile, ...]:
    """Images named by numbers, each by its own, as COCO's are, keep them; otherwise all are counted."""
    images = [entry for entry in entries if not entry.video and entry.at != NOWHERE]
    ids = image_ids([PurePosixPath(entry.name).stem for entry in images], [entry.number for entry in images])
    by_number = {entry.number: image_id for entry, image_id in zip(images, ids, strict=True)}
    return tuple(replace(entry, image_id=by_number.get(entry.number, 0)) for entry in entries)
