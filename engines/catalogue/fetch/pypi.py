"""Downloads wheels with pip, which knows the user's index, mirror, proxy and certificates."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from engines.catalogue.fetch.sources import DownloadProgress, FetchError, PypiSource

POLL_SECONDS = 0.2


def download(source: PypiSource, work: Path, *, progress: DownloadProgress | None = None) -> Path:
    """Download the wheel that `source` names into the folder `work`; returns its path.

    Everything that pip writes, temporary files included, goes to `work`.
    Raises FetchError if pip is missing or fails, with its last error message.
    """
    if importlib.util.find_spec("pip") is None:
        raise FetchError(
            f"{source.origin} comes through pip, which {sys.executable} does not have",
            f"`{sys.executable} -m ensurepip` installs it",
        )
    wheels, output, errors = work / "wheels", work / "pip.out", work / "pip.err"
    # fmt: off
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--implementation", "cp",
        "--python-version", source.python, "--platform", source.platform, "--progress-bar", "off",
        "--dest", str(wheels), source.origin,
    ]
    # fmt: on
    environment = {
        "PIP_RETRIES": "1",  # each of pip's default five waits longer: an offline start would take minutes
        **os.environ,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "TMPDIR": str(work),
    }
    # pip writes its output to files: pipes would have to be read while it runs.
    with output.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment)  # noqa: S603
        try:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
                if progress:  # from what pip has written: before 24.1 it has no machine-readable progress
                    progress(_size(work), _size_reported(output), source.origin)
        finally:
            process.kill()  # in case the wait was interrupted; no effect on a process that has ended
            process.wait()
    found = list(wheels.glob("*.whl"))
    if process.returncode != 0 or len(found) != 1:
        raise _failure(source, errors.read_text("utf-8", errors="replace"))
    if progress:
        size = found[0].stat().st_size
        progress(size, size, source.origin)
    return found[0]


def _size(folder: Path) -> int:
    """The size of the largest wheel below `folder`, which pip moves while it works."""
    sizes = []
    for path in folder.rglob("*.whl"):
        with suppress(FileNotFoundError):  # pip has moved it
            sizes.append(path.stat().st_size)
    return max(sizes, default=0)


def _size_reported(output: Path) -> int | None:
    """The size in bytes that pip printed, as in "Downloading x.whl (35.6 MB)"."""
    match = re.search(r"\((\d+(?:\.\d+)?) (kB|MB|GB)\)", output.read_text("utf-8", errors="replace"))
    return match and round(float(match[1]) * {"kB": 1e3, "MB": 1e6, "GB": 1e9}[match[2]])


def _failure(source: PypiSource, errors: str) -> FetchError:
    complaints = [line.removeprefix("ERROR: ") for line in errors.splitlines() if line.startswith("ERROR: ")]
    last = (complaints or errors.strip().splitlines() or ["pip said nothing"])[-1]
    unreachable = "Retrying (" in errors  # pip prints this warning for every failed connection
    what = "the package index could not be reached" if unreachable else f"pip could not download {source.origin}"
    return FetchError(f"{what}: {last}", "check the network, and pip's own settings with `pip config list`")
