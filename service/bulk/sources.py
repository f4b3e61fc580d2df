"""The bytes of a source's entries; archives are read where they are and never unpacked as a whole."""

from __future__ import annotations

import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

from engines.fetching.archives import UNSOUND_ZIP
from service.bulk.errors import UnreadableError
from service.bulk.listing import Entry, Kind

_PIECE = 1 << 20


class Source(ABC):
    """Where entries are read. May be used from several threads at once."""

    @abstractmethod
    def read(self, entry: Entry, most: int) -> bytes:
        """All of an entry, or `most` + 1 bytes of a larger one. Raises UnreadableError."""

    @abstractmethod
    def file(self, entry: Entry, scratch: Path) -> AbstractContextManager[Path]:
        """The entry as a file: its own, or a copy at `scratch` for as long as it is used.

        Raises UnreadableError, and OSError where the copy cannot be written.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the archive."""


def open_source(kind: Kind, root: Path) -> Source:
    """Raises UnreadableError where the archive cannot be opened."""
    with _readable():
        if kind == "zip":
            return _Zip(root)
        return _Tar(root) if kind == "tar" else _Files(root if kind == "folder" else root.parent)


class _Files(Source):
    """Files of their own, under `root` unless their path is absolute."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, entry: Entry, most: int) -> bytes:
        with _readable(), (self._root / str(entry.at)).open("rb") as file:
            return file.read(most + 1)

    def file(self, entry: Entry, scratch: Path) -> AbstractContextManager[Path]:  # noqa: ARG002
        return nullcontext(self._root / str(entry.at))

    def close(self) -> None:
        """There is nothing to let go of."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Archive(Source):
    """Members of an archive. A video is copied to disk while it is used, as decoders need to go back and forth."""

    def read(self, entry: Entry, most: int) -> bytes:
        with _readable(), self._open(entry) as member:
            return member.read(most + 1)

    @contextmanager
    def file(self, entry: Entry, scratch: Path) -> Iterator[Path]:
        try:
            with scratch.open("wb") as copy:
                for piece in self._pieces(entry):
                    copy.write(piece)
            yield scratch
        finally:
            scratch.unlink(missing_ok=True)

    def _pieces(self, entry: Entry) -> Iterator[bytes]:
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
    def _open(self, entry: Entry) -> AbstractContextManager[_Readable]:
        """The bytes of a member."""


class _Zip(_Archive):
    """The declared size bounds what is unpacked of a member; a larger one fails its checksum."""

    def __init__(self, root: Path) -> None:
        self._zip = zipfile.ZipFile(root)
        self._members = self._zip.infolist()

    def _open(self, entry: Entry) -> AbstractContextManager[_Readable]:
        return self._zip.open(self._members[int(entry.at)])

    def close(self) -> None:
        self._zip.close()


class _Tar(_Archive):
    def __init__(self, root: Path) -> None:
        self._file = root.open("rb")

    def _open(self, entry: Entry) -> AbstractContextManager[_Readable]:
        return nullcontext(_Stretch(self._file.fileno(), int(entry.at), entry.size))

    def close(self) -> None:
        self._file.close()


class _Stretch:
    """So many bytes of an open file from `start` on."""

    def __init__(self, handle: int, start: int, size: int) -> None:
        self._handle = handle
        self._at = start
        self._end = start + size

    def read(self, size: int) -> bytes:
        data = os.pread(self._handle, min(size, self._end - self._at), self._at)
        self._at += len(data)
        return data


@contextmanager
def _readable() -> Iterator[None]:
    """Says why something could not be read."""
    try:
        yield
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror or error}") from error
    except UNSOUND_ZIP as error:
        raise UnreadableError(f"cannot be unpacked: {error}") from error
