"""What a source is called: parsed from the user's text, and shown without user names, passwords and tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from engines.files import shown

SourceKind = Literal["device", "file", "rtsp", "http"]

_SCHEMES: dict[str, SourceKind] = {"rtsp": "rtsp", "rtsps": "rtsp", "http": "http", "https": "http"}
_HIDDEN = "..."
_SHORTEST_SECRET = 3
"""Characters. Shorter user names and passwords would hide letters of ordinary words."""


@dataclass(frozen=True, slots=True)
class SourceAddress:
    """A source. target: its URL with everything that opens it, or its path; never to be shown. name: what to show.

    Of a URL, `name` has no user name, no password and no query, and no part of the path with an `=`, as some cameras
    take passwords in those.
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

    def redact(self, text: str) -> str:
        """Return a message without anything that opens this source."""
        text = text.replace(self.target, self.name)
        if self.kind in ("rtsp", "http"):
            parts = urlsplit(self.target)
            secrets = {parts.username or "", parts.password or "", parts.query}
            for secret in sorted(secrets | {unquote(secret) for secret in secrets}, key=len, reverse=True):
                if len(secret) >= _SHORTEST_SECRET:
                    text = text.replace(secret, _HIDDEN)
        return text


def _shown_url(url: str) -> str:
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("no host")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = "" if parts.port is None else f":{parts.port}"
    path = re.sub(r"[^/]*=[^/]*", _HIDDEN, parts.path)
    return shown(f"{parts.scheme}://{host}{port}{path}{f'?{_HIDDEN}' if parts.query else ''}")
