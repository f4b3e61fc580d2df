"""Downloads npm packages with npm, which knows the user's registry, proxy, certificates and credentials (.npmrc).

An interrupted download starts again: npm keeps no part of a tarball, and `npm pack` asks the registry for the whole one
even if its cache has it. Members that are cached already are not fetched again.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from engines.catalogue.fetch.archives import zip_members
from engines.catalogue.fetch.clients import Stall, run_client, sizes_of
from engines.catalogue.fetch.sources import DownloadProgress, FetchError, NpmSource, UnreachableError

ANSWER_SECONDS = 5.0
"""How long a registry may take for its first answer, beside the time to connect."""
STALL_SECONDS = 60.0
"""A download of which nothing comes for this long is given up, unless npm computes."""
_START_SECONDS = 10.0
"""npm's own start. On a busier machine it may take longer, if npm computes."""
_NOT_REACHED = re.compile(r"ECONN|ENOTFOUND|EAI_AGAIN|TIMEDOUT|TIMEOUT|FETCH_ERROR|ENETUNREACH|EHOSTUNREACH|ENOTCACHED")


def download(
    source: NpmSource,
    members: Collection[str],
    work: Path,
    *,
    progress: DownloadProgress | None = None,
    connect_timeout: float = 3.0,
) -> Path:
    """Download the package that `source` names into the folder `work`; returns a zip of its files `members`, see
    `zip_members`.

    Everything that npm writes, its cache included, goes to `work`.
    Raises FetchError if npm is missing or fails, with its error message, or if the download stalls; UnreachableError if
    the registry does not answer within `connect_timeout` and ANSWER_SECONDS.
    """
    program = shutil.which("npm")
    if program is None:
        raise FetchError(f"npm is not installed, and {source.origin} comes through it", "Node.js brings it")

    def run(*arguments: str, watch: Callable[[Path, int], None]) -> None:
        own = ("--loglevel=error", "--logs-max=0", "--no-update-notifier", f"--cache={work / 'npm'}")
        command = [program, *arguments, *own, source.origin]
        # In a folder of ours, as npm would read settings of a project in the user's.
        done = run_client(command, work, os.environ, watch, cwd=work)
        if done.failed:
            raise _failure(source, done.errors)

    patience = connect_timeout + ANSWER_SECONDS
    silent = Stall(patience + _START_SECONDS)

    def wait_for_answer(_output: Path, group: int) -> None:
        if silent(0, group):  # such as while npm looks up a name
            raise UnreachableError(f"{source.server} could not be reached: no answer within {patience:g} s", _HINT)

    # npm's own timeout is one for answers and for downloads, so that a short one needs a request of its own.
    timeout = f"--fetch-timeout={round(1000 * patience)}"
    run("view", "--fetch-retries=0", timeout, watch=wait_for_answer)
    retries = ("--fetch-retries=1", "--fetch-retry-mintimeout=2000")  # npm's own waits are longer than STALL_SECONDS
    run("pack", "--ignore-scripts", *retries, watch=_Watch(source, work, progress))
    tarballs = list(work.glob("*.tgz"))
    if len(tarballs) != 1:
        raise FetchError(f"npm packed {len(tarballs)} files of {source.origin} where it should have packed one", _HINT)
    kept = zip_members(tarballs[0], members, work / "members.zip", origin=source.origin)
    if progress:
        size = tarballs[0].stat().st_size
        progress(size, size, source.origin)
    return kept


_HINT = "check the network, and npm's own settings with `npm config list`"


class _Watch:
    """Shows the progress of `npm pack`, and raises FetchError if it stalls."""

    def __init__(self, source: NpmSource, work: Path, progress: DownloadProgress | None) -> None:
        self._source = source
        self._work = work
        self._progress = progress
        self._stalled = Stall(STALL_SECONDS)

    def __call__(self, _output: Path, group: int) -> None:
        sizes = sizes_of(self._work)
        if self._stalled(sum(sizes), group):
            why = f"the download of {self._source.origin} broke off: nothing came for {STALL_SECONDS:g} s"
            raise FetchError(why, "start it again")
        if self._progress:
            self._progress(max(sizes, default=0), None, self._source.origin)  # the largest file is the tarball


def _failure(source: NpmSource, errors: str) -> FetchError:
    """The error from what npm printed: lines that begin with "npm error", or "npm ERR!" before npm 10."""
    lines = [re.sub(r"^npm (error|ERR!) ?", "", line).strip() for line in errors.splitlines()]
    code = next((line.removeprefix("code ") for line in lines if line.startswith("code ")), "")
    about = re.compile(r"(code|syscall|errno) |\d+$|A complete log|$")
    message = next((line for line in lines if not about.match(line)), "npm said nothing")
    message = re.sub(r"^(network|\d{3}|FetchError:|TypeError:) ", "", message)
    if _NOT_REACHED.search(code):
        return UnreachableError(f"{source.server} could not be reached: {message}", _HINT)
    return FetchError(f"npm could not download {source.origin}: {message}", _HINT)
