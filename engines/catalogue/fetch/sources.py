"""The sources of model files, and the types shared by the modules of this package.

Pydantic validates the dataclasses here when it reads a catalogue, by the annotations of their fields.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Protocol
from urllib.parse import quote, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationInfo

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""A name in a catalogue: of a model, a family, a package."""


class FetchError(Exception):
    """A model file could not be fetched. `reason` says what happened, `hint` how to fix it."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(f"{reason}; {hint}" if hint else reason)
        self.reason = reason
        self.hint = hint


class UnreachableError(FetchError):
    """The source's server gave no answer; other files of the same server need not be tried now."""


class DownloadProgress(Protocol):
    """Called during a download with the bytes so far, the total (None while unknown) and the name of the file."""

    def __call__(self, done: int, total: int | None, label: str, /) -> None: ...


def _inside(path: str) -> str:
    pure = PurePosixPath(path)
    if not pure.name or pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path:
        raise ValueError("it must be relative, with slashes, and lead to a file of the source")
    return path


def _url(url: str) -> str:
    if not permitted(url):
        raise ValueError("it must be an https:// address (http:// only of this machine)")
    return url


def _users_path(path: object, info: ValidationInfo[Path]) -> Path:
    """A path relative to the folder of the catalogue file, which is the context of the validation."""
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError("it must be a path")
    try:
        return Path(info.context, Path(path).expanduser())
    except RuntimeError:
        raise ValueError("there is no such user's folder") from None


Url = Annotated[str, AfterValidator(_url)]


class Table:
    """A table of a catalogue file. Keys that it does not have are refused."""

    __slots__ = ()
    __pydantic_config__ = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class File(Table):
    """One file of a model.

    path: relative, with slashes, inside its source, or inside `archive`, a zip that is a file of the source. sha256: of
    the file itself, lowercase hex, None if unknown.
    """

    path: Annotated[str, AfterValidator(_inside)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    archive: Annotated[str, AfterValidator(_inside)] | None = None

    @property
    def member(self) -> str:
        """The file of the source that is or contains it."""
        return self.archive or self.path

    @property
    def location(self) -> str:
        """Its path in the cache, relative to the folder of its source."""
        return f"{self.archive}!/{self.path}" if self.archive else self.path


@dataclass(frozen=True, slots=True)
class PypiSource(Table):
    """A wheel of a Python package; files are its members. The package is never installed.

    python, platform: the tags of one of the release's wheels, independent of this machine.
    """

    package: Name
    version: Name
    python: Name
    platform: Name
    kind: Literal["pypi"] = "pypi"

    @property
    def origin(self) -> str:
        """The source's name in records and messages."""
        return f"{self.package}=={self.version}"

    @property
    def key(self) -> str:
        """The name of its folder in the cache. Entries of one source share a folder, and so one download."""
        return f"{self.package}-{self.version}-py{self.python}-{self.platform}"

    @property
    def server(self) -> str:
        """Who is asked for it, in messages."""
        return "the package index"


@dataclass(frozen=True, slots=True)
class NpmSource(Table):
    """A package of an npm registry; files are its members. It is never installed, and nothing of it is run.

    version: the exact one, so that the files in the cache never go stale.
    """

    package: Annotated[str, Field(pattern=r"^(@[a-z0-9][a-z0-9._~-]*/)?[a-z0-9][a-z0-9._~-]*$", max_length=214)]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+([+-][0-9A-Za-z.+-]+)?$")]
    kind: Literal["npm"] = "npm"

    @property
    def origin(self) -> str:
        """The source's name in records and messages."""
        return f"{self.package}@{self.version}"

    @property
    def key(self) -> str:
        """The name of its folder in the cache; no package of an index of wheels has such a name."""
        return f"npm+{self.origin.replace('/', '+')}"

    @property
    def server(self) -> str:
        """Who is asked for it, in messages."""
        return "the npm registry"


@dataclass(frozen=True, slots=True)
class HttpsSource(Table):
    """A single file or a zip at a URL; a URL that ends in a slash is a folder whose files are downloaded one by one."""

    url: Url
    kind: Literal["https"] = "https"

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

    @property
    def server(self) -> str:
        """Who is asked for it, in messages."""
        return urlsplit(self.url).hostname or ""


@dataclass(frozen=True, slots=True)
class FileSource(Table):
    """A folder or a single file on this machine; used in place and never copied."""

    path: Annotated[Path, BeforeValidator(_users_path)]
    kind: Literal["file"] = "file"

    @property
    def origin(self) -> str:
        """The source's name in messages."""
        return str(self.path)


@dataclass(frozen=True, slots=True)
class CheckpointSource(Table):
    """Weights to be downloaded by hand, from which a graph is made: by `posewire build`, or by their authors' program.

    url: the web page. file: the authors' file name for the weights. architecture: one of `engines.networks.NETWORKS`,
    or else export: the command of the authors that writes the graph, in a copy of the repository at `url`.
    """

    url: Url
    file: str
    architecture: Name | None = None
    export: str | None = None
    kind: Literal["checkpoint"] = "checkpoint"

    def __post_init__(self) -> None:
        if (self.architecture is None) == (self.export is None):
            raise ValueError("architecture: a checkpoint has either this or export")

    @property
    def origin(self) -> str:
        """The source's name in messages."""
        return f"{self.file} of {self.url}"

    @property
    def instructions(self) -> str:
        """How to make a graph of the weights, as the end of a sentence."""
        if self.architecture is not None:
            return f"run `posewire build {self.architecture} --checkpoint {self.file}`"
        return (
            f"run `{self.export}` in a copy of that repository; "
            "then `posewire models check` on the graph that it writes"
        )


DownloadedSource = PypiSource | NpmSource | HttpsSource
Source = DownloadedSource | FileSource | CheckpointSource


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
