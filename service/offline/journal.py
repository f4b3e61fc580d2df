"""An append-only file of finished work, so that a restarted process can continue after a crash.

The file begins with a line of JSON that identifies the work. Each record follows as its length, its CRC-32 and its
bytes. A record that a crash left incomplete at the end is cut off.
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
    """The journal cannot be used. The message is for the user."""


class DamagedJournalError(JournalError):
    """The journal's content is not what was written to it."""


class Journal:
    """The records of one piece of work: first those of an earlier run, in order, then new ones.

    about: identifies the work (plain JSON). If the file is the journal of other work, it is emptied, and `other` holds
    that work's `about`. found: number of records of the earlier run.
    A file lock lets one process at a time use it. A context manager; a file with records is kept until `remove`.
    Raises JournalError if the file is not a journal, cannot be written or is in use.
    """

    def __init__(self, path: Path, about: Mapping[str, object]) -> None:
        self.path = path
        self.found = 0
        self.other: Mapping[str, object] | None = None
        self._left = self._added = 0
        line = _MAGIC + json.dumps(dict(about), sort_keys=True).encode() + b"\n"
        with self._usable():
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o644)  # does not block on a pipe
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
            with suppress(OSError):  # buffered data may not fit on the disk
                self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.found and not self._added:
            with suppress(OSError):
                self.remove()
        with suppress(OSError):  # all records were flushed, except one whose error was already raised
            self._file.close()

    def next(self) -> bytes | None:
        """Return the next record of the earlier run, or None after the last."""
        if not self._left:
            return None
        self._left -= 1
        with self._usable():
            record = self._read()
        if record is None:
            raise DamagedJournalError(f"{shown(self.path)} changed while it was read")
        return record

    def append(self, record: bytes) -> None:
        """Append a record. Once this returns, the record survives the end of the process.

        Raises JournalError if it cannot be written, ValueError while records of the earlier run are unread.
        """
        if self._left:
            raise ValueError(f"{self._left} records of the earlier run come first")
        with self._usable():
            self._file.write(_HEAD.pack(len(record), zlib.crc32(record)) + record)
            self._file.flush()
        self._added += 1

    def cut(self, keep: int) -> None:
        """Drop all records of the earlier run except the first `keep`. New records follow these."""
        with self._usable():
            self._file.seek(0)
            self._file.readline(_MAX_LINE)
            for _ in range(keep):
                self._read()
            self._file.truncate(self._file.tell())
        self.found, self._left = keep, 0

    def remove(self) -> None:
        """Delete the file, because the work is done."""
        self.path.unlink(missing_ok=True)

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Turn OSError into JournalError."""
        try:
            yield
        except BlockingIOError as error:
            raise JournalError(f"{shown(self.path)} is in use: another posewire process does the same work") from error
        except OSError as error:
            raise JournalError(f"cannot write {shown(self.path)}: {error.strerror}") from error

    def _begin(self, line: bytes) -> None:
        """Count the records of an earlier run, cut off damaged bytes after them, and seek to the first record."""
        there = self._file.readline(_MAX_LINE)
        if there and not there.startswith(_MAGIC) and not _MAGIC.startswith(there):
            raise DamagedJournalError(f"{shown(self.path)} is not a journal of posewire; move it away")
        if there == line:
            end = len(line)
            while self._read() is not None:
                self.found += 1
                end = self._file.tell()
            self._file.truncate(end)
            self._file.seek(len(line))
            self._left = self.found
            return
        if there.endswith(b"\n"):
            self.other = {}  # unless it can be read
            with suppress(ValueError, RecursionError):
                about = json.loads(there[len(_MAGIC) :])
                self.other = about if isinstance(about, dict) else {}
        self._file.seek(0)
        self._file.truncate()
        self._file.write(line)
        self._file.flush()

    def _read(self) -> bytes | None:
        """The record at the current position; None at the end of the file or at a damaged record."""
        head = self._file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        length, checksum = _HEAD.unpack(head)
        if length > self._size - self._file.tell():
            return None
        record = self._file.read(length)
        return record if len(record) == length and zlib.crc32(record) == checksum else None
