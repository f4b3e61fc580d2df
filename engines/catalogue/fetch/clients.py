"""Runs pip and npm, which know the user's registry, mirror, proxy, certificates and credentials."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.2


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
    watch: Callable[[Path], None],
    *,
    cwd: Path | None = None,
) -> ClientResult:
    """Run a program until it ends; its output goes to files in `folder`.

    watch: called every POLL_SECONDS with the file of standard output. If it raises, the program is killed.
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
                watch(output)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # npm is often a script that starts another program
            process.wait()
            raise
    said = [file.read_text("utf-8", errors="replace") for file in (output, errors)]
    return ClientResult(process.returncode != 0, *said)


def sizes_of(folder: Path, pattern: str = "*") -> list[int]:
    """The sizes in bytes of the files below `folder`, which a client moves and removes meanwhile."""
    sizes = []
    for path in folder.rglob(pattern):
        with suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return sizes
