"""Robust file access: names that are not UTF-8, pipes in place of files, byte order marks, atomic writes."""

from __future__ import annotations

import codecs
import errno
import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

_ESCAPED = re.compile("[\\\\\x00-\x1f\x7f-\x9f\u2028\u2029\udc80-\udcff]")
"""Backslashes, control characters, line ends, and bytes that are not UTF-8 (as decoded by `surrogateescape`)."""

_PIECE = 1 << 20

# UTF-32 comes first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class NotAFileError(OSError):
    """The path is a folder, a pipe or a device instead of a file."""


def shown(name: bytes | str | os.PathLike[str]) -> str:
    r"""A file name for results and messages: one line of valid UTF-8, which `restored` turns back into the name.

    Bytes that are not UTF-8 and control characters become `\xNN`; a backslash becomes two. name: raw bytes, or a path
    of this machine.
    """
    raw = name if isinstance(name, bytes) else os.fsencode(name)
    return _ESCAPED.sub(_escaped, raw.decode("utf-8", "surrogateescape"))


def _escaped(found: re.Match[str]) -> str:
    if found[0] == "\\":
        return "\\\\"
    return "".join(f"\\x{byte:02x}" for byte in found[0].encode("utf-8", "surrogateescape"))


def restored(text: str) -> bytes:
    """Undo `shown`."""
    parts = re.split(r"(\\\\|\\x[0-9a-f]{2})", text)
    return b"".join(_byte(part) if n % 2 else part.encode() for n, part in enumerate(parts))


def _byte(escape: str) -> bytes:
    return b"\\" if escape == "\\\\" else bytes([int(escape[2:], 16)])


def open_at_once(path: str | os.PathLike[str]) -> BufferedReader:
    """Open the file at `path` for reading, without blocking: a named pipe without a writer reads as empty.

    Raises OSError; NotAFileError for a folder.
    """
    return _open(path, regular=False)


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open the regular file at `path` for reading. Raises OSError; NotAFileError for any other kind of file."""
    return _open(path, regular=True)


def _open(path: str | os.PathLike[str], *, regular: bool) -> BufferedReader:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(handle).st_mode
    if stat.S_ISDIR(mode) or (regular and not stat.S_ISREG(mode)):
        os.close(handle)
        raise NotAFileError(errno.EINVAL, "is not a file", os.fspath(path))
    os.set_blocking(handle, True)
    return os.fdopen(handle, "rb")


def read_small(path: Path, max_bytes: int) -> bytes:
    """Read a file of at most `max_bytes` bytes. Raises OSError, also if it is larger."""
    data = bytearray()
    with open_at_once(path) as file:
        while len(data) <= max_bytes and (piece := file.read(_PIECE)):  # a single read would allocate `max_bytes`
            data += piece
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"is larger than {max_bytes:,} bytes", os.fspath(path))
    return bytes(data)


def without_mark(data: bytes) -> bytes:
    """Remove the byte order mark of a text, and convert UTF-16 and UTF-32 to UTF-8.

    Raises UnicodeDecodeError if a text with a UTF-16 or UTF-32 mark is not in that encoding.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :] if encoding == "utf-8" else data.decode(encoding).encode()
    return data


@contextmanager
def published(path: Path, *, durable: bool = True, unique: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`. Its file gets the name `path` when it is complete, and is removed after an
    error, so that readers see either the old content or the new.

    durable: the file is on disk before it is renamed, and survives a crash of the machine. unique: others may write
    the same file at once. If the process is killed, it may leave a file whose name begins with a dot and the stem of
    `path`, and ends in .part; otherwise NAME.part, which the next writer replaces.
    """
    part = path.with_name(f"{path.name}.part")
    if unique:
        part = path.with_name(f".{path.stem}-{os.getpid()}-{threading.get_ident()}{path.suffix}.part")
    try:
        yield part
        if durable:
            with part.open("rb") as file:
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Write the file at `path`, see `published`."""
    with published(path) as part:
        part.write_bytes(content)
