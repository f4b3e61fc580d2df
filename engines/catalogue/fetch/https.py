"""Resumable downloads over HTTPS."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import httpx

from engines.catalogue.fetch.sources import DownloadProgress, FetchError, File, HttpsSource, UnreachableError, permitted

MAX_BYTES = 4 << 30
READ_TIMEOUT = 30.0
_CHUNK = 1 << 16

_Advance = Callable[[int, int | None], None]


def download_file(
    source: HttpsSource,
    file: File,
    folder: Path,
    work: Path,
    *,
    progress: DownloadProgress | None = None,
    connect_timeout: float = 3.0,
) -> Path:
    """Download `file`, or the archive that has it, to the folder `work`. Only an interrupted one stays in `folder`."""
    part = folder / f"{file.path.replace('/', '-') if source.is_folder else 'download'}.part"
    label = PurePosixPath(file.path).name if source.is_folder else source.name
    download(source.url_of(file), part, label=label, progress=progress, connect_timeout=connect_timeout)
    return part.replace(work / "download")  # before it is verified, so that a wrong download is not resumed


def download(
    url: str,
    part: Path,
    *,
    label: str,
    progress: DownloadProgress | None = None,
    connect_timeout: float = 3.0,
    max_bytes: int = MAX_BYTES,
) -> None:
    """Download `url` to `part`, which is complete when this returns.

    Data from an earlier attempt is kept if the server still has the same version of the file (If-Range), and dropped if
    the version differs or the server does not support ranges. `<part>.version` holds the version of `part`.
    Raises FetchError if the server cannot be reached, refuses, breaks off, redirects to a URL that is not HTTPS, or
    sends more than `max_bytes`. The data received before a break is kept for the next attempt.
    """

    def check(request: httpx.Request) -> None:  # called for the URL itself and for every redirect
        if not permitted(str(request.url), url):
            raise FetchError(f"{url} leads to {request.url}, which is not HTTPS", "correct the catalogue's URL")

    def advance(done: int, total: int | None) -> None:
        if max(done, total or 0) > max_bytes:
            part.unlink(missing_ok=True)
            raise FetchError(f"{url} is larger than the {max_bytes} bytes that are taken for a model")
        if progress:
            progress(done, total, label)

    timeout = httpx.Timeout(READ_TIMEOUT, connect=connect_timeout)
    hooks = {"request": [check]}
    try:
        with httpx.Client(follow_redirects=True, max_redirects=5, timeout=timeout, event_hooks=hooks) as client:
            if not _attempt(client, url, part, advance):
                part.unlink()
                _attempt(client, url, part, advance)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _failure(url, error, connect_timeout) from error
    _version(part).unlink(missing_ok=True)


def _attempt(client: httpx.Client, url: str, part: Path, advance: _Advance) -> bool:
    """Request the file, or its missing part. Returns False if the server cannot continue from the data in `part`."""
    headers = {"Accept-Encoding": "identity"}  # ranges count transferred bytes, so these must be the file's own
    version, have = _left_over(part)
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    with client.stream("GET", url, headers=headers) as response:
        if have and response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            complete: bool = response.headers.get("Content-Range") == f"bytes */{have}"
            return complete
        if have and response.status_code == httpx.codes.PARTIAL_CONTENT:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            if span is None or int(span[1]) != have:
                return False
            size = span[2]
        elif response.status_code == httpx.codes.OK:
            have, size = 0, response.headers.get("Content-Length", "")
            part.write_bytes(b"")  # before the new version is recorded, so that data of two versions is never mixed
            _version(part).write_text(_version_of(response), encoding="utf-8")
        else:
            raise FetchError(
                f"{url} answered {response.status_code} {response.reason_phrase}".rstrip(),
                "see whether the publisher has moved the file, and correct the catalogue's URL",
            )
        total = int(size) if size.isdecimal() else None
        advance(have, total)
        with part.open("ab") as sink:
            for chunk in response.iter_raw(_CHUNK):
                sink.write(chunk)
                have += len(chunk)
                advance(have, total)
    return True


def _left_over(part: Path) -> tuple[str, int]:
    """The version of `part` and its size in bytes; 0 if there is nothing to resume."""
    with suppress(FileNotFoundError):
        version = _version(part).read_text(encoding="utf-8")
        return version, part.stat().st_size if version else 0
    return "", 0


def _version(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _version_of(response: httpx.Response) -> str:
    """The response's version for If-Range, empty if the server gives none."""
    etag: str = response.headers.get("ETag", "")
    modified: str = response.headers.get("Last-Modified", "")
    return modified if etag.startswith("W/") else etag or modified  # a weak tag does not guarantee identical bytes


def _failure(url: str, error: httpx.HTTPError | httpx.InvalidURL, connect_timeout: float) -> FetchError:
    host = urlsplit(url).hostname
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
        slow = isinstance(error, httpx.ConnectTimeout)
        why = f"no answer within {connect_timeout:g} s" if slow else re.sub(r"^\[Errno -?\d+\] ", "", str(error))
        hint = "check the network, or the proxy that HTTPS_PROXY names"
        return UnreachableError(f"{host} could not be reached: {why}", hint)
    if isinstance(error, httpx.TransportError):
        why = f"nothing came for {READ_TIMEOUT:g} s" if isinstance(error, httpx.TimeoutException) else "it was cut"
        return FetchError(f"the download from {host} broke off: {why}", "start it again: it goes on from there")
    why = "too many redirects" if isinstance(error, httpx.TooManyRedirects) else "it is no URL that can be asked"
    return FetchError(f"{url} cannot be downloaded: {why}", "correct the catalogue's URL")
