"""Resumable downloads over HTTPS."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from engines.catalogue.fetch.sources import DownloadProgress, FetchError, permitted

MAX_BYTES = 4 << 30
READ_TIMEOUT = 30.0
_CHUNK = 1 << 16

_Advance = Callable[[int, int | None], None]


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
            size: str = response.headers.get("Content-Range", "")
            return size == f"bytes */{have}"  # the file is complete
        if have and response.status_code == httpx.codes.PARTIAL_CONTENT:
            start, total = _content_range(response)
            if start != have:
                return False
        elif response.status_code == httpx.codes.OK:
            have, total = 0, _content_length(response)
            part.write_bytes(b"")  # before the new version is recorded, so that data of two versions is never mixed
            _version(part).write_text(_version_of(response), encoding="utf-8")
        else:
            raise FetchError(
                f"{url} answered {response.status_code} {response.reason_phrase}".rstrip(),
                "see whether the publisher has moved the file, and correct the catalogue's URL",
            )
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


def _content_range(response: httpx.Response) -> tuple[int, int | None]:
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if match is None:
        return -1, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _content_length(response: httpx.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _failure(url: str, error: httpx.HTTPError | httpx.InvalidURL, connect_timeout: float) -> FetchError:
    host = urlsplit(url).hostname
    match error:
        case httpx.ConnectTimeout():
            return FetchError(f"{host} could not be reached: no answer within {connect_timeout:g} s", _NETWORK)
        case httpx.ConnectError():
            why = re.sub(r"^\[Errno -?\d+\] ", "", str(error))
            return FetchError(f"{host} could not be reached: {why}", _NETWORK)
        case httpx.TransportError():
            why = f"nothing came for {READ_TIMEOUT:g} s" if isinstance(error, httpx.TimeoutException) else "it was cut"
            return FetchError(f"the download from {host} broke off: {why}", "start it again: it goes on from there")
        case _:
            why = (
                "too many redirects" if isinstance(error, httpx.TooManyRedirects) else "it is no URL that can be asked"
            )
            return FetchError(f"{url} cannot be downloaded: {why}", "correct the catalogue's URL")


_NETWORK = "check the network, or the proxy that HTTPS_PROXY names"
