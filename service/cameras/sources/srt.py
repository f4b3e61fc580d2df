"""SRT, which the program srt-live-transmit of the SRT project speaks: the FFmpeg in PyAV is built without it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from typing import cast
from urllib.parse import parse_qsl, urlsplit

from service.cameras.sources.address import SourceOptions
from service.cameras.sources.addresses import permitted_addresses
from service.cameras.sources.errors import SourceError

PROGRAM = "srt-live-transmit"
_END_S = 1.0
"""The program ends this soon after it has closed its output, if it ends."""
_PARAMETERS = ("latency", "passphrase", "pbkeylen", "streamid")


@contextmanager
def srt_stream(url: str, how: SourceOptions) -> Iterator[FileIO]:
    """Connect to srt://HOST:PORT, and give what it sends. A read returns what is there, and nothing at the end.

    The program ends with the context. If this process is killed, it ends when it writes, or after 5 s without data.
    Raises SourceError.
    """
    target = _target(url, how)
    if (program := shutil.which(PROGRAM)) is None:
        raise SourceError(f"srt:// needs the program {PROGRAM}, which is not installed (Debian's package srt-tools)")
    command = [program, "-a:no", "-q", "-loglevel:fatal", target, "file://con"]
    with subprocess.Popen(  # noqa: S603 - without a shell, and the URL cannot be taken for an option
        command, bufsize=0, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield cast("FileIO", process.stdout)  # as it has no buffer
        except SourceError as error:
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                raise error from None  # it is connected, and what it gives is no video
            raise SourceError("there is no connection: nobody answers, it was refused, or it has ended") from error
        finally:
            process.kill()


def _target(url: str, how: SourceOptions) -> str:
    """The URL for the program: of an address that may be connected to, and with known parameters only."""
    parts = urlsplit(url)
    if parts.port is None:
        raise SourceError("an SRT source needs a port, as in srt://HOST:9000")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    if given.pop("mode", "caller") != "caller":
        raise SourceError("an SRT source must listen: mode may be caller alone")
    if others := sorted(given.keys() - set(_PARAMETERS)):
        raise SourceError(f"an SRT source has the parameters {', '.join(_PARAMETERS)}; not {', '.join(others)}")
    if any("&" in value for value in given.values()):
        raise SourceError("a parameter of an SRT source cannot have an &")
    host = parts.hostname or ""
    address = permitted_addresses(host, parts.port, how.allowed(host))[0]
    shown = f"[{address}]" if ":" in address else address
    return f"srt://{shown}:{parts.port}?" + "&".join(["mode=caller", *(f"{k}={v}" for k, v in given.items())])
