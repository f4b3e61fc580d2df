"""Wheels, through pip's own `download`: the user's index, mirror, proxy and certificates are pip's to know."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

from engines.catalogue.fetch.sources import DownloadProgress, FetchError, PypiSource

POLL_SECONDS = 0.2


def download(source: PypiSource, work: Path, *, progress: DownloadProgress | None = None) -> Path:
    """Download the wheel that `source` names into the folder `work`; returns its path.

    Everything that pip writes, temporary files included, goes to `work`.
    Raises FetchError where pip is missing or fails, with the last thing it complained of.
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
        "PIP_RETRIES": "1",  # of pip's own five, each waits longer: an offline start would take minutes
        **os.environ,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "TMPDIR": str(work),
    }
    # Files for its output, rather than pipes that somebody must empty while pip runs.
    with output.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment)  # noqa: S603
        try:
            _wait(process, source, work, progress)
        finally:
            process.kill()  # when the wait was interrupted; nothing happens to one that has ended
            process.wait()
    found = list(wheels.glob("*.whl"))
    if process.returncode != 0 or len(found) != 1:
        raise _failure(source, errors.read_text("utf-8", errors="replace"))
    if progress:
        size = found[0].stat().st_size
        progress(size, size, source.origin)
    return found[0]


def _wait(process: subprocess.Popen[bytes], source: PypiSource, work: Path, progress: DownloadProgress | None) -> None:
    """Wait for pip, telling `progress` how much it has written: pip has no progress report for programs before 24.1."""
    while True:
        try:
            process.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if progress:
                progress(_size(work), _announced(work / "pip.out"), source.origin)
        else:
            return


def _size(folder: Path) -> int:
    """Bytes of the wheel that is being written somewhere below `folder`, in all stages of its way."""
    sizes = []
    for path in folder.rglob("*.whl"):
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:  # pip has just moved it
            continue
    return max(sizes, default=0)


def _announced(output: Path) -> int | None:
    """The size that pip printed, such as "Downloading x.whl (35.6 MB)", in bytes."""
    match = re.search(r"\((\d+(?:\.\d+)?) (kB|MB|GB)\)", output.read_text("utf-8", errors="replace"))
    return match and round(float(match[1]) * {"kB": 1e3, "MB": 1e6, "GB": 1e9}[match[2]])


def _failure(source: PypiSource, errors: str) -> FetchError:
    complaints = [line.removeprefix("ERROR: ") for line in errors.splitlines() if line.startswith("ERROR: ")]
    last = (complaints or errors.strip().splitlines() or ["pip said nothing"])[-1]
    unreachable = "Retrying (" in errors  # pip prints one such warning for every attempt that reached nobody
    what = "the package index could not be reached" if unreachable else f"pip could not download {source.origin}"
    return FetchError(f"{what}: {last}", "check the network, and pip's own settings with `pip config list`")
