"""Downloads wheels with pip, which knows the user's index, mirror, proxy and certificates.

An interrupted download starts again: pip keeps no part of it. From pip 25.1 on a connection that breaks off is resumed
while pip runs.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path

from engines.catalogue.fetch.clients import run_client, sizes_of
from engines.catalogue.fetch.sources import DownloadProgress, FetchError, PypiSource, UnreachableError


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
    wheels = work / "wheels"
    # fmt: off
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--implementation", "cp",
        "--python-version", source.python, "--platform", source.platform, "--progress-bar", "off",
        "--dest", str(wheels), source.origin,
    ]
    # fmt: on
    environment = {
        "PIP_RETRIES": "1",  # each of pip's default five waits longer: an offline start would take minutes
        "PIP_RESUME_RETRIES": "5",
        **os.environ,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "TMPDIR": str(work),
    }

    def show(output: Path, _group: int) -> None:
        if progress:  # from what pip has written: before 24.1 it has no machine-readable progress
            progress(max(sizes_of(work, "*.whl"), default=0), _size_reported(output), source.origin)

    done = run_client(command, work, environment, show)
    found = list(wheels.glob("*.whl"))
    if done.failed or len(found) != 1:
        raise _failure(source, done.errors)
    if progress:
        size = found[0].stat().st_size
        progress(size, size, source.origin)
    return found[0]


def _size_reported(output: Path) -> int | None:
    """The size in bytes that pip printed, as in "Downloading x.whl (35.6 MB)"."""
    match = re.search(r"\((\d+(?:\.\d+)?) (kB|MB|GB)\)", output.read_text("utf-8", errors="replace"))
    return match and round(float(match[1]) * {"kB": 1e3, "MB": 1e6, "GB": 1e9}[match[2]])


def _failure(source: PypiSource, errors: str) -> FetchError:
    hint = "check the network, and pip's own settings with `pip config list`"
    # pip prints this warning for every failed connection; its last error is then that it has found no release.
    if broken := re.search(r"Retrying \(.*broken by '\w+\((.*)\)': ", errors):
        why = re.sub(r"<.*?>[:,] ", "", broken[1]).strip("'\"")
        return UnreachableError(f"{source.server} could not be reached: {why}", hint)
    complaints = [line.removeprefix("ERROR: ") for line in errors.splitlines() if line.startswith("ERROR: ")]
    last = (complaints or errors.strip().splitlines() or ["pip said nothing"])[-1]
    return FetchError(f"pip could not download {source.origin}: {last}", hint)
