"""Reading the files of a source. Archives are read in place and never unpacked as a whole."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO, Protocol

from engines.catalogue.fetch.archives import UNSOUND_ZIP
from engines.files import NotAFileError, open_regular
from service.offline.bulk.errors import UnreadableError
from service.offline.bulk.listing import Kind, SourceFile
from service.offline.bulk.zips import Stretch, open_member, read_directory

_PIECE = 1 << 20


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Source(ABC):
    """Reads the files of a folder, a list or an archive. Thread-safe. archive: closed with the source."""

    def __init__(self, archive: BinaryIO | None = None) -> None:
        self._archive = archive

    def read(self, entry: SourceFile, most: int) -> bytes:
        """Read an entry, or `most` + 1 bytes of a larger one. Raises UnreadableError."""
        with _readable(), self._open(entry) as file:
            return file.read(most + 1)

    @contextmanager
    def file(self, entry: SourceFile, scratch: Path) -> Iterator[Path]:
        """Give an entry as a file: its own, or a temporary copy at `scratch`, because decoders need to seek.

        Raises UnreadableError, and OSError if the copy cannot be written.
        """
        try:
            with scratch.open("wb") as copy:
                for piece in self._pieces(entry):
                    copy.write(piece)
            yield scratch
        finally:
            scratch.unlink(missing_ok=True)

    def close(self) -> None:
        if self._archive is not None:
            self._archive.close()

    def _pieces(self, entry: SourceFile) -> Iterator[bytes]:
        with _readable():
            opened = self._open(entry)
        with opened as member:
            while True:
                with _readable():
                    piece = member.read(_PIECE)
                if not piece:
                    return
                yield piece

    @abstractmethod
    def _open(self, entry: SourceFile) -> AbstractContextManager[_Readable]: ...


def open_source(kind: Kind, root: Path) -> Source:
    """Open a source. Raises UnreadableError if the archive cannot be opened, BulkError if a zip is incomplete."""
    with _readable():
        if kind == "zip":
            return _Zip(root.open("rb"))
        return _Tar(root.open("rb")) if kind == "tar" else _Files(root if kind == "folder" else root.parent)


class _Files(Source):
    """Plain files, under `root` unless their path is absolute."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root

    @contextmanager
    def file(self, entry: SourceFile, scratch: Path) -> Iterator[Path]:  # noqa: ARG002
        with _readable():
            self._open(entry).close()
        yield self._root / str(entry.at)

    def _open(self, entry: SourceFile) -> BinaryIO:
        """Open an entry, which may have been removed or replaced since it was listed."""
        file = open_regular(self._root / str(entry.at))
        if (size := os.fstat(file.fileno()).st_size) != entry.size:
            file.close()
            raise UnreadableError(f"has changed since it was listed: it had {entry.size:,} bytes, now it has {size:,}")
        return file


class _Zip(Source):
    """At most the declared size of a member is unpacked. A larger member then fails its checksum."""

    def __init__(self, archive: BinaryIO) -> None:
        super().__init__(archive)
        self._handle = archive.fileno()
        self._members = read_directory(archive)[0]

    def _open(self, entry: SourceFile) -> AbstractContextManager[_Readable]:
        if int(entry.at) >= len(self._members):
            raise UnreadableError("is no longer in the archive, which has changed since it was listed")
        return open_member(self._handle, self._members[int(entry.at)])


class _Tar(Source):
    def __init__(self, archive: BinaryIO) -> None:
        super().__init__(archive)
        self._handle = archive.fileno()

    def _open(self, entry: SourceFile) -> AbstractContextManager[_Readable]:
        return nullcontext(Stretch(self._handle, int(entry.at), entry.size))


@contextmanager
def _readable() -> Iterator[None]:
    """Turn errors of reading into UnreadableError."""
    try:
        yield
    except NotAFileError as error:
        raise UnreadableError("is not a file any more") from error
    except OSError as error:
        why = error.strerror or "its compressed data is damaged"  # bz2 raises OSError without strerror
        raise UnreadableError(f"cannot be read: {why}") from error
    except UNSOUND_ZIP as error:
        raise UnreadableError(
            "cannot be unpacked: it is damaged, its checksum or its compressed data is wrong"
        ) from error
