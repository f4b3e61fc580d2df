"""Work that is done, on disk, so that a killed process need not do it again.

A file of records: a line of JSON that says what the work is, then for each record its length, its CRC-32 and its bytes.
What a crash left half-written at the end is cut off.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Self

from engines.files import shown

_MAGIC = b"posewire journal 1 "
_HEAD = struct.Struct("<II")
_MAX_LINE = 1 << 16


class JournalError(Exception):
    """A journal that cannot be used; the message is for the user."""


class DamagedJournalError(JournalError):
    """A journal that holds something else than was written to it."""


class Journal:
    """The records of one piece of work, first those of an earlier run in their order, then new ones.

    about: what the work is (plain JSON). A journal of other work is begun anew: `other` then says of which.
    Held by one process at a time. A context manager; a file with records stays until `remove`.
    Raises JournalError where the file is not a journal, cannot be written, or is in use.
    """

    def __init__(self, path: Path, about: Mapping[str, object]) -> None:
        self.path = path
        self.found = 0
        self.other: Mapping[str, object] | None = None
        self._left = 0
        self._added = 0
        line = _MAGIC + json.dumps(dict(about), sort_keys=True).encode() + b"\n"
        with self._usable():
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o644)  # of a pipe, too, without waiting
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            os.close(handle)
            raise DamagedJournalError(f"{shown(path)} is not a file; move it away")
        self._size = status.st_size
        self._file: BinaryIO = os.fdopen(handle, "r+b", buffering=1 << 16)
        try:
            with self._usable():
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._begin(line)
        except BaseException:
            with suppress(OSError):  # there may be something left to write, and no room for it
                self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.found and not self._added:
            with suppress(OSError):
                self.remove()
        with suppress(OSError):  # every record was flushed, but for one that failed and was told of
            self._file.close()

    def next(self) -> bytes | None:
        """The next record of the earlier run; None when there are no more."""
        if not self._left:
            return None
        self._left -= 1
        with self._usable():
            record = self._read()
        if record is None:
            raise DamagedJournalError(f"{shown(self.path)} changed while it was read")
        return record

    def append(self, record: bytes) -> None:
        """Add a record, after all of the earlier run have been read; it survives the process from then on.

        Raises JournalError where the disk is full.
        """
        if self._left:
            raise ValueError(f"{self._left} records of the earlier run come first")
        with self._usable():
            self._file.write(_HEAD.pack(len(record), zlib.crc32(record)) + record)
            self._file.flush()
        self._added += 1

    def cut(self, keep: int) -> None:
        """Forget all records of the earlier run but the first `keep`, after which new ones follow.

        Raises JournalError where the file cannot be written.
        """
        try:
            self._file.seek(0)
            self._file.readline(_MAX_LINE)
            for _ in range(keep):
                self._read()
            self._file.truncate(self._file.tell())
        except OSError as error:
            raise JournalError(f"cannot write {self.path}: {error.strerror}") from error
        self.found, self._left = keep, 0

    def remove(self) -> None:
        """The work is done: delete the file."""
        self.path.unlink(missing_ok=True)

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Says why the file cannot be used."""
        try:
            yield
        except BlockingIOError as error:
            raise JournalError(f"{shown(self.path)} is in use: another posewire process does the same work") from error
        except OSError as error:
            raise JournalError(f"cannot write {shown(self.path)}: {error.strerror}") from error

    def _begin(self, line: bytes) -> None:
        """Find the records of an earlier run, cut off what is broken after them, and go to the first."""
        there = self._file.readline(_MAX_LINE)
        if there and not there.startswith(_MAGIC) and not _MAGIC.startswith(there):
            raise DamagedJournalError(f"{shown(self.path)} is not a journal of posewire; move it away")
        if there == line:
            end = self._file.tell()
            while self._read() is not None:
                self.found += 1
                end = self._file.tell()
            self._file.truncate(end)
            self._file.seek(len(line))
            self._left = self.found
            return
        if there.endswith(b"\n"):
            self.other = _about(there)
        self._file.seek(0)
        self._file.truncate()
        self._file.write(line)
        self._file.flush()

    def _read(self) -> bytes | None:
        """The record here; None where the file ends or is broken."""
        head = self._file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        length, checksum = _HEAD.unpack(head)
        if length > self._size - self._file.tell():
            return None
        record = self._file.read(length)
        return record if len(record) == length and zlib.crc32(record) == checksum else None


def _about(line: bytes) -> Mapping[str, object]:
    """What a journal says of its work; nothing where that is damaged."""
    try:
        about = json.loads(line[len(_MAGIC) :])
    except (ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}
