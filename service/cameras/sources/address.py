"""What a source is called: parsed from the user's text, and shown without user names, passwords and tokens."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import quote, quote_plus, unquote, urlsplit

from engines.files import shown
from service.camera_hosts import CameraHosts

SourceKind = Literal["device", "file", "rtsp", "http", "srt"]

_SCHEMES: dict[str, SourceKind] = {"rtsp": "rtsp", "rtsps": "rtsp", "http": "http", "https": "http", "srt": "srt"}
_HIDDEN = "..."
_TOKEN = re.compile(r".*=.*|(?=.*\d)[\w~.%+-]{20,}", re.DOTALL)
"""Parts of a path that some cameras and services take passwords and keys in."""
_SHORTEST_SECRET = 3
"""Characters. Shorter user names and passwords would hide letters of ordinary words."""


@dataclass(frozen=True, slots=True)
class SourceAddress:
    """A source. target: its URL with everything that opens it, or its path; never to be shown. name: what to show.

    Of a URL, `name` has no user name, no password and no query, and no part of the path that may be a password or key,
    as some cameras take them there: parts with an `=`, and those of 20 characters and more with a digit.
    """

    kind: SourceKind
    target: str = field(repr=False)
    name: str

    @staticmethod
    def parse(text: str) -> SourceAddress:
        """Read 0 or /dev/video0, a URL, or the path of a file. Raises ValueError with a message for the user."""
        if text.isascii() and text.isdigit():
            return SourceAddress("device", f"/dev/video{int(text)}", f"/dev/video{int(text)}")
        if text.startswith("/dev/"):
            return SourceAddress("device", text, shown(text))
        scheme, separator, _ = text.partition("://")
        if not separator:
            if Path(text).is_file():
                return SourceAddress("file", text, shown(text))
            raise ValueError(f"{shown(text)} is not a file; name a camera as 0, /dev/video0 or rtsp://HOST/PATH")
        kind = _SCHEMES.get(scheme.lower())
        if kind is None:
            raise ValueError(f"a source cannot begin with {shown(scheme)}://; these can: {', '.join(_SCHEMES)}")
        try:
            name = _shown_url(text)
        except ValueError as error:
            raise ValueError("the source is no valid URL; it is like rtsp://HOST:554/PATH") from error
        return SourceAddress(kind, text, name)

    @property
    def is_url(self) -> bool:
        """False for a file or a device."""
        return self.kind in _SCHEMES.values()

    @property
    def host(self) -> str:
        """The host in its URL; "" for a file or a device."""
        return (urlsplit(self.target).hostname or "") if self.is_url else ""

    def check_host(self, hosts: CameraHosts) -> None:
        """Raise ValueError with a message for the user if a client of the API may not name this source.

        A name that is not listed may still have an address in a listed network, which is checked on connecting.
        """
        if not self.is_url:
            raise ValueError(
                "cameras that are put by the API have an rtsp://, http:// or srt:// source, no file or device"
            )
        try:
            ip_address(self.host)
            is_name = False
        except ValueError:
            is_name = True
        if not hosts.lists(self.host) and not (is_name and hosts.networks):
            raise ValueError(f"the setting camera_hosts does not list {self.host}")

    def redact(self, text: str) -> str:
        """Return a message without anything that opens this source, however it is encoded there."""
        text = text.replace(self.target, self.name)
        if self.is_url:
            forms = {form for secret in _secrets(self.target) for form in _forms(secret)}
            for form in sorted(forms, key=len, reverse=True):
                if len(form) >= _SHORTEST_SECRET:
                    text = re.sub(re.escape(form), _HIDDEN, text, flags=re.IGNORECASE)
        return text


def _secrets(url: str) -> Iterator[str]:
    """The parts of a URL that `_shown_url` leaves out."""
    parts = urlsplit(url)
    user, password = parts.username or "", parts.password or ""
    yield from (user, password, f"{user}:{password}", parts.query, parts.fragment)
    yield from _values(parts.query)
    for segment in parts.path.split("/"):
        if _TOKEN.fullmatch(segment):
            yield segment
            yield from _values(segment)


def _values(text: str) -> Iterator[str]:
    """Whatever may be a name or a value in it. Some servers take `;` and a later `=` for separators, others do not."""
    for separators in ("&", "[&;]"):
        for pair in re.split(separators, text):
            yield from (pair, pair.partition("=")[2], *pair.split("="))


def _forms(secret: str) -> Iterator[str]:
    """A secret as it is written in a URL, a form or the head of a request."""
    plain = unquote(secret)
    encoded = base64.b64encode(plain.encode()).decode()
    yield from (secret, plain, quote(plain, safe=""), quote(plain), quote_plus(plain), encoded)


def _shown_url(url: str) -> str:
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("no host")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = "" if parts.port is None else f":{parts.port}"
    path = "/".join(_HIDDEN if _TOKEN.fullmatch(segment) else segment for segment in parts.path.split("/"))
    return shown(f"{parts.scheme}://{host}{port}{path}{f'?{_HIDDEN}' if parts.query else ''}")


SourceTransport = Literal["tcp", "udp"]


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How a source is opened.

    transport: of RTSP. UDP loses packets where the network does, which damages pictures; some cameras have no TCP.
    verify: whether the certificates of rtsps:// and https:// sources are verified. hardware: whether to decode on a GPU
    where there is one. hosts: as in the setting `camera_hosts`, what the source may lead to. own_host: whether the
    source's own host is allowed without being listed, as the operator named it.
    """

    transport: SourceTransport = "tcp"
    verify: bool = True
    hardware: bool = True
    hosts: tuple[str, ...] = ()
    own_host: bool = True

    def allowed(self, host: str) -> CameraHosts:
        """What may be connected to. host: of the source."""
        return CameraHosts.parse(self.hosts, host if self.own_host else "")
