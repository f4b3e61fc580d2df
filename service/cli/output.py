"""What the command prints as its result, as bytes that arrive or an error."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress


def write_out(text: str | bytes) -> None:
    """Print a result: UTF-8 whatever the terminal's encoding is, except for names, which keep their own bytes.

    Raises OSError where it cannot be printed, also where the output was closed before the program began.
    """
    if sys.stdout is None:
        raise OSError(errno.EBADF, "the output is closed")
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def give_up_output() -> None:
    """Drop what could not be printed, so that Python does not try again, and complain, as it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, AttributeError):  # None, or not the process's own
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
