"""What there is to do: the images and videos of a folder, an archive or a list, in an order that stays."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from service.bulk.errors import BulkError

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
VIDEOS = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp"})

Kind = Literal["folder", "list", "zip", "tar"]

_MOST_INFLATION = 100
"""Videos are compressed already: one that a zip holds at a hundredth of its size is a trap."""
_ENCRYPTED = 1
_NOWHERE = ""
"""Where what an archive has lost is."""
_LOST = "is not whole: what comes after {:,} bytes cannot be told"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the source. number: its place in the listing. name: what results call it, always UTF-8, with slashes.

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


@dataclass(frozen=True, slots=True)
class Listing:
    """All there is to do. others: how many files there were that are neither images nor videos."""

    kind: Kind
    root: Path
    entries: tuple[Entry, ...]
    others: int = 0

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
    kind = _kind(source)
    read = {"folder": _folder, "list": _list, "zip": _zip, "tar": _tar}[kind]
    try:
        found = list(read(source, apart))
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise BulkError(f"{source} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    wanted = [e for e in found if kind == "list" or e.at == _NOWHERE or _suffix(e.name) in IMAGES | VIDEOS]
    if not wanted:
        raise BulkError(f"there is no image and no video in {source} ({len(found)} other files)")
    entries = tuple(replace(e, number=n) for n, e in enumerate(wanted))
    return Listing(kind, source.resolve(), _with_ids(entries), len(found) - len(wanted))


def _kind(source: Path) -> Kind:
    if source.is_dir():
        return "folder"
    suffix = _suffix(source.name)
    if suffix in IMAGES | VIDEOS:
        what = "posewire image" if suffix in IMAGES else "posewire video"
        raise BulkError(f"{source} is a single file; use {what}, or name a folder, a .zip, a .tar or a list of files")
    if zipfile.is_zipfile(source):
        return "zip"
    if suffix == ".zip":
        raise BulkError(f"{source} is not a whole zip archive")
    with source.open("rb") as file:
        start = file.read(512)
    if start[257:262] == b"ustar" or suffix == ".tar":
        return "tar"
    if any(start.startswith(mark) for mark in (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        raise BulkError(f"{source} is compressed as a whole, so no file of it can be read alone; make it a .tar")
    if b"\0" in start:
        raise BulkError(f"{source} is no folder, no .zip, no .tar and no list of files")
    return "list"


def _folder(root: Path, apart: Path) -> Iterator[Entry]:
    """In the order of their paths; hidden files, and folders that are links, are left out."""
    away = apart.resolve()
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        folders[:] = sorted(n for n in folders if not n.startswith(".") and (here / n).resolve() != away)
        for name in sorted(files):
            path = here / name
            if not name.startswith("."):
                yield _file(path, path.relative_to(root).as_posix())


def _list(source: Path, _: Path) -> Iterator[Entry]:
    """In the order of the list; paths are relative to it, empty lines and those that begin with # are left out."""
    try:
        lines = source.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise BulkError(f"{source} is not a list of files in UTF-8") from error
    for line in lines:
        if (name := line.strip()) and not name.startswith("#"):
            yield _file(source.parent / name, name)


def _file(path: Path, name: str) -> Entry:
    label = os.fsencode(name).decode("utf-8", "backslashreplace")
    try:
        status = path.stat()
    except OSError as error:
        return Entry(0, label, name, 0, 0, problem=f"cannot be read: {error.strerror}")
    problem = "" if stat.S_ISREG(status.st_mode) else "is not a file"
    return Entry(0, label, name, status.st_size, status.st_mtime_ns, problem=problem)


def _zip(source: Path, _: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(source) as archive:
        for place, info in enumerate(archive.infolist()):
            problem = _stray(info.filename)
            if info.flag_bits & _ENCRYPTED:
                problem = "is encrypted"
            elif _suffix(info.filename) in VIDEOS and info.file_size > _MOST_INFLATION * (info.compress_size + 1024):
                problem = f"would unpack to {info.file_size:,} bytes from {info.compress_size:,}, which no video does"
            if not info.is_dir():
                yield Entry(0, str(PurePosixPath(info.filename)), place, info.file_size, info.CRC, problem=problem)


def _tar(source: Path, _: Path) -> Iterator[Entry]:
    whole = source.stat().st_size
    with tarfile.open(source, "r:") as archive:
        members = iter(archive)
        while info := _next_member(members):
            name = str(PurePosixPath(info.name)).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            problem = _stray(name)
            if not info.isreg() or info.issparse():
                problem = "is a link, a sparse file or a device in the archive; only plain files are read"
            elif info.offset_data + info.size > whole:
                problem = "is cut off: the archive ends in the middle of it"
            if not info.isdir():
                yield Entry(0, name, info.offset_data, info.size, int(info.mtime), problem=problem)
        if archive.offset != whole and not _ends(source, archive.offset):
            yield Entry(0, source.name, _NOWHERE, 0, 0, problem=_LOST.format(archive.offset))


def _next_member(members: Iterator[tarfile.TarInfo]) -> tarfile.TarInfo | None:
    """None at the end, be it the right one or not."""
    try:
        return next(members, None)
    except tarfile.ReadError:
        return None


def _ends(archive: Path, offset: int) -> bool:
    """Whether a tar has the mark of its end there."""
    with archive.open("rb") as file:
        file.seek(offset)
        return file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)


def _stray(name: str) -> str:
    """What is wrong with a member's name. Nothing is ever written under it, but whoever reads the results might."""
    inside = PurePosixPath(name.replace("\\", "/"))
    return "has a name that leads out of the archive" if inside.is_absolute() or ".." in inside.parts else ""


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _with_ids(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Images named by numbers, each by its own, as COCO's are, keep them; otherwise all are counted."""
    stems = [PurePosixPath(entry.name).stem for entry in _images(entries)]
    numbered = all(stem.isascii() and stem.isdigit() and len(stem) < 16 for stem in stems)
    if numbered and len({int(stem) for stem in stems}) == len(stems):
        return tuple(e if e.video else replace(e, image_id=int(PurePosixPath(e.name).stem)) for e in entries)
    return tuple(replace(entry, image_id=entry.number) for entry in entries)


def _images(entries: Iterable[Entry]) -> Iterator[Entry]:
    return (entry for entry in entries if not entry.video)
