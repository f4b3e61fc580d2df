"""Names and files as users have them: names that are not UTF-8, pipes in place of files, byte order marks."""

from __future__ import annotations

import codecs
import errno
import os
import re
import stat
from io import BufferedReader
from pathlib import Path

_UNSHOWN = re.compile("[\\\\\x00-\x1f\x7f-\x9f\u2028\u2029\udc80-\udcff]")
"""Backslashes, control characters, ends of lines, and bytes that are not UTF-8 (as `surrogateescape` decodes them)."""

_PIECE = 1 << 20

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class NotAFileError(OSError):
    """A folder, a pipe or a device where a file was expected."""


def shown(name: bytes | str | os.PathLike[str]) -> str:
    r"""A file's name as results and messages give it: one line of valid UTF-8, from which the name can be restored.

    Bytes that are not UTF-8 and control characters become `\xNN`, a backslash becomes two. bytes: the name itself;
    anything else: a path of this machine.
    """
    raw = name if isinstance(name, bytes) else os.fsencode(name)
    return _UNSHOWN.sub(_escaped, raw.decode("utf-8", "surrogateescape"))


def _escaped(found: re.Match[str]) -> str:
    if found[0] == "\\":
        return "\\\\"
    return "".join(f"\\x{byte:02x}" for byte in found[0].encode("utf-8", "surrogateescape"))


def restored(text: str) -> bytes:
    """The name that `shown` turned into `text`."""
    parts = re.split(r"(\\\\|\\x[0-9a-f]{2})", text)
    return b"".join(_byte(part) if n % 2 else part.encode() for n, part in enumerate(parts))


def _byte(escape: str) -> bytes:
    return b"\\" if escape == "\\\\" else bytes([int(escape[2:], 16)])


def open_at_once(path: str | os.PathLike[str]) -> BufferedReader:
    """The file at `path`, to read. A named pipe to which nobody writes is empty, rather than waited for.

    Raises OSError; NotAFileError for a folder.
    """
    return _open(path, regular=False)


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """The file at `path`, to read. Raises OSError; NotAFileError for anything but a regular file."""
    return _open(path, regular=True)


def _open(path: str | os.PathLike[str], *, regular: bool) -> BufferedReader:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(handle).st_mode
    if stat.S_ISDIR(mode) or (regular and not stat.S_ISREG(mode)):
        os.close(handle)
        raise NotAFileError(errno.EINVAL, "is not a file", os.fspath(path))
    os.set_blocking(handle, True)
    return os.fdopen(handle, "rb")


def read_small(path: Path, most: int) -> bytes:
    """A file of at most `most` bytes. Raises OSError, also for a larger one."""
    data = bytearray()
    with open_at_once(path) as file:
        while len(data) <= most and (piece := file.read(_PIECE)):  # at once it would take memory for `most`
            data += piece
    if len(data) > most:
        raise OSError(errno.EFBIG, f"is larger than {most:,} bytes", os.fspath(path))
    return bytes(data)


def without_mark(data: bytes) -> bytes:
    """A text in UTF-8 without its byte order mark; one in UTF-16 or UTF-32 is turned into UTF-8.

    Raises UnicodeDecodeError where a text with the mark of UTF-16 or UTF-32 is not that.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :] if encoding == "utf-8" else data.decode(encoding).encode()
    return data
