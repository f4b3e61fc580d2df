"""Files of JSON lines."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from service.events.entries import FileEntry
from service.events.event import PublishedEvent
from service.events.sinks.base import Outcomes, SinkAwayError
from service.process.supervisor import run_on_thread

_PIECE = 65_536


class FileSink:
    """Appends each event as a line. Lines are on the disk (fsync) before they count as delivered.

    A file that is too large gets the name PATH.1, an older one PATH.2, and so on.
    """

    def __init__(self, entry: FileEntry) -> None:
        self._entry = entry

    async def tend(self, states: Mapping[str, Mapping[str, Any] | None]) -> None:
        """See Sink. There is nothing to do."""

    async def send(self, events: Sequence[PublishedEvent], outcomes: Outcomes) -> None:
        """See Sink."""
        lines = b"".join(orjson.dumps(event.document()) + b"\n" for event in events)
        try:
            await run_on_thread("event file", lambda: _append(self._entry, lines))
        except OSError as error:
            raise SinkAwayError(f"the file cannot be written: {error.strerror or error}") from error
        for event in events:
            outcomes.delivered(event)

    async def close(self) -> None:
        """See Sink. No file stays open."""


def _append(entry: FileEntry, lines: bytes) -> None:
    """Append whole lines, or nothing. Raises OSError."""
    # Opened each time: it may have been moved or removed. A pipe without a reader would block.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.open(entry.path, flags, 0o640)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is not a file")
        size = _whole_lines(file, found.st_size)
        if size and size + len(lines) > entry.max_mb * 1e6:
            os.close(file)
            file = -1
            _rotate(entry.path, entry.keep)
            file, size = os.open(entry.path, flags | os.O_EXCL, 0o640), 0
        try:
            written = 0
            while written < len(lines):
                written += os.write(file, lines[written:])
            os.fsync(file)
        except OSError:
            os.ftruncate(file, size)
            raise
        if size == 0:
            _sync_folder(entry.path.parent)
    finally:
        if file >= 0:
            os.close(file)


def _whole_lines(file: int, size: int) -> int:
    """Cut off a line that a killed server has left unfinished, which will be written again. Returns the new size."""
    end = size
    while end > 0:
        start = max(0, end - _PIECE)
        piece = os.pread(file, end - start, start)
        if (last := piece.rfind(b"\n")) >= 0:
            end = start + last + 1
            break
        end = start
    if end < size:
        os.ftruncate(file, end)
    return end


def _rotate(path: Path, keep: int) -> None:
    def old(number: int) -> Path:
        return path.with_name(f"{path.name}.{number}")

    for number in range(keep - 1, 0, -1):
        if old(number).exists():
            old(number).replace(old(number + 1))
    if keep:
        path.replace(old(1))
    else:
        path.unlink()


def _sync_folder(folder: Path) -> None:
    """Have the name of a new file on the disk, too."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
