"""Extracts single files from zips and wheels."""

from __future__ import annotations

import lzma
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

from engines.catalogue.fetch.sources import FetchError

MAX_MEMBER_BYTES = 4 << 30
"""The largest file that is extracted: larger than any model, as a guard against zip bombs."""

UNSOUND_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    IndexError,
    MemoryError,
    RuntimeError,
)
"""The exceptions from reading broken zips and (the last one, or NotImplementedError, which is a kind of it) zips with
unsupported encryption or compression.
"""


def take(archive: Path, member: str, target: Path, *, origin: str) -> None:
    """Write one member of the zip at `archive` to `target`, whatever the archive calls it.

    member: its full path, or the end of it (`end2end.onnx` of `2023/rtmpose/end2end.onnx`) if that is unique.
    Raises FetchError, which names `origin`, if there is no such member or the zip is broken.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            info = _find(content, member, origin)
            if info.file_size > MAX_MEMBER_BYTES:
                raise FetchError(f"{member} in {origin} is larger than {MAX_MEMBER_BYTES >> 30} GiB")
            with content.open(info) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
    except UNSOUND_ZIP as error:
        why = f": the checksum of {member} is wrong" if "CRC" in str(error) else ""
        raise FetchError(
            f"what {origin} gave is not a sound zip{why}",
            "a source that is the model file itself must end in that file's name",
        ) from error


def _find(content: zipfile.ZipFile, member: str, origin: str) -> zipfile.ZipInfo:
    members = {info.filename: info for info in content.infolist() if not info.filename.endswith("/")}
    if member in members:
        return members[member]
    fitting = [name for name in members if name.endswith(f"/{member}")]
    if len(fitting) == 1:
        return members[fitting[0]]
    what = f"{len(fitting)} files that end in" if fitting else "no file"
    raise FetchError(f"{origin} holds {what} {member}", "correct `files` in the catalogue")
