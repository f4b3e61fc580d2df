"""Runs pip and npm, which know the user's registry, mirror, proxy, certificates and credentials."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.2
COMPUTING_SECONDS = 5.0
"""How long a client that has done nothing visible is watched for whether it computes."""


@dataclass(frozen=True, slots=True)
class ClientResult:
    """What a client printed until it ended."""

    failed: bool
    output: str
    errors: str


def run_client(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    watch: Callable[[Path, int], None],
    *,
    cwd: Path | None = None,
) -> ClientResult:
    """Run a program until it ends; its output goes to files in `folder`.

    watch: called every POLL_SECONDS with the file of standard output and the client's process group. If it raises,
    the program is killed.
    """
    # The output goes to files: pipes would have to be read while the program runs.
    output, errors = folder / "client.out", folder / "client.err"
    with output.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(  # noqa: S603
            command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, start_new_session=True
        )
        try:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
                watch(output, process.pid)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # npm is often a script that starts another program
            process.wait()
            raise
    said = [file.read_text("utf-8", errors="replace") for file in (output, errors)]
    return ClientResult(process.returncode != 0, *said)


class Stall:
    """Tells when a client waits for others. On a busy machine it may do nothing for long and not wait for anybody."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._written = -1
        self._since = time.monotonic()
        self._ticks: int | None = None

    def __call__(self, written: int, group: int) -> bool:
        """True if the client has written nothing for `seconds`, and has not computed either at the end of them.

        written: the bytes that it has written so far. group: its process group.
        """
        now = time.monotonic()
        if written != self._written:
            self._written, self._since, self._ticks = written, now, None
        if now - self._since <= self._seconds:
            return False
        ticks = _ticks_of(group)
        if ticks == self._ticks:
            return True
        self._ticks, self._since = ticks, now - self._seconds + COMPUTING_SECONDS
        return False


def _ticks_of(group: int) -> int:
    """The processor time that the processes of a group have used, in ticks of the kernel; 0 without Linux's /proc."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            fields = stat.read_bytes().rpartition(b")")[2].split()
            ticks += int(fields[11]) + int(fields[12]) if int(fields[2]) == group else 0
    return ticks


def sizes_of(folder: Path, pattern: str = "*") -> list[int]:
    """The sizes in bytes of the files below `folder`, which a client moves and removes meanwhile."""
    sizes = []
    for path in folder.rglob(pattern):
        with suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return sizes
