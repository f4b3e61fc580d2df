"""Records of the digests of cached files.

The record `<file>.lock.json` holds the file's digest with its size and mtime. While these two are unchanged, the file
is taken for the one that was hashed, so that a normal start does not hash hundreds of megabytes.
"""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from engines.catalogue.fetch.sources import File
from engines.files import read_small

_LARGEST = 1 << 16


@dataclass(frozen=True, slots=True)
class Record:
    """The digest of a file from `source`, first fetched on `date`. size in bytes, mtime in ns."""

    source: str
    sha256: str
    size: int
    mtime: int
    date: str


_RECORD = TypeAdapter(Record)


def record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock.json")


def read(path: Path) -> Record | None:
    """The record of the file `path`, or None if it does not exist or is invalid."""
    try:
        return _RECORD.validate_json(read_small(record_path(path), _LARGEST), strict=True)
    except (OSError, ValueError):
        return None


def write(path: Path, content: Path, origin: str, digest: str) -> None:
    """Write the record of `path`, atomically. content: the file itself, or the one that is about to replace it."""
    stat, known = content.stat(), read(path)
    again = known is not None and (known.source, known.sha256) == (origin, digest)
    date = known.date if known and again else datetime.now(UTC).date().isoformat()
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    draft.write_bytes(_RECORD.dump_json(Record(origin, digest, stat.st_size, stat.st_mtime_ns, date), indent=1))
    draft.replace(record_path(path))


def expected_digest(path: Path, file: File, origin: str) -> str | None:
    """The sha256 that the file `path` must have, or None if none is known."""
    record = read(path)
    return file.sha256 or (record.sha256 if record and record.source == origin else None)


def vouched(path: Path, origin: str | None = None) -> str | None:
    """The sha256 in the record of `path`, or None if the file has changed since or is not from `origin`."""
    record = read(path)
    if record is None or origin not in (None, record.source):
        return None
    try:
        stat = path.stat()
    except OSError:
        return None
    return record.sha256 if (record.size, record.mtime) == (stat.st_size, stat.st_mtime_ns) else None


def is_verified(path: Path, file: File, origin: str) -> bool:
    """True if the file `path` is the one expected. It is hashed if its record is missing or outdated."""
    try:
        expected = expected_digest(path, file, origin)
        if expected is None:
            return False
        if vouched(path) == expected:
            return True
        if sha256(path) != expected:
            return False
    except OSError:
        return False
    with suppress(OSError):  # a read-only cache works as well, but is hashed at every start
        write(path, path, origin, expected)
    return True


def sha256(path: Path) -> str:
    """The file's digest in lowercase hex."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
