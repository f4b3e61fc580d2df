"""Writing results to stdout, with write errors reported, and progress to stderr."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click


def write_out(text: str | bytes) -> None:
    """Write a result to stdout as UTF-8, whatever the terminal's encoding. File names keep bytes that are not UTF-8.

    Raises OSError if it cannot be written, also if stdout was closed before the program started.
    """
    if sys.stdout is None:
        raise OSError(errno.EBADF, "the output is closed")
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def give_up_output() -> None:
    """Discard output that could not be written; otherwise Python tries again at exit and prints a second error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, AttributeError):  # a stream is None or was replaced
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def file_error(error: OSError, path: Path | str) -> click.ClickException:
    """The error to show for a file that cannot be read or written. path: named if the system does not name one."""
    return click.ClickException(f"{error.filename or path}: {error.strerror or error}")


@contextmanager
def progress_bar(label: str, length: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar on stderr if that is a terminal. Yields a function that advances it by one step."""
    with click.progressbar(length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        yield lambda: bar.update(1)
