"""Browser security: which sites' pages may open streams, and what the server's own pages may load."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_DEFAULT_PORTS = {"http": 80, "https": 443}
_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def allows_origin(origin: str, host: str, allowed: Sequence[str]) -> bool:
    """Return whether a page of this origin may open a stream.

    Browsers send the page's Origin with each websocket handshake, also to other sites; other clients send none. Pages
    of the server itself are allowed: their host and port are those of the Host header, while the scheme may differ
    behind a proxy that terminates TLS. Other pages are allowed if their origin, or `*`, is in `allowed`.
    """
    if not origin or "*" in allowed or origin in allowed:
        return True
    page = urlsplit(origin)
    try:
        return bool(page.hostname) and _host_and_port(origin) == _host_and_port(f"{page.scheme}://{host}")
    except ValueError:  # an invalid port
        return False


def _host_and_port(url: str) -> tuple[str | None, int | None]:
    parts = urlsplit(url)
    return parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)


@lru_cache(16)
def content_security_policy(page: bytes) -> str:
    """Return the Content-Security-Policy of one of the server's HTML pages.

    It may load from this server alone, and run its own inline scripts, which the policy lists by their hashes.
    """
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
        for script in _INLINE_SCRIPT.findall(page)
    ]
    return "; ".join(
        (
            "default-src 'self'",
            " ".join(["script-src 'self'", *hashes]),
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


class PagePolicy:
    """ASGI middleware that adds a Content-Security-Policy to each HTML page that has none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head: Message | None = None  # of a page, held back until its body can be hashed

        async def send_with_policy(message: Message) -> None:
            nonlocal head
            if message["type"] == "http.response.start" and _lacks_policy(message):
                head = message
                return
            if head is not None:
                policy = content_security_policy(bytes(message.get("body", b"")))
                head["headers"] = [*head["headers"], (b"content-security-policy", policy.encode())]
                await send(head)
                head = None
            await send(message)

        await self._app(scope, receive, send_with_policy)


def _lacks_policy(message: Message) -> bool:
    headers = dict(message["headers"])
    return b"content-security-policy" not in headers and headers.get(b"content-type", b"").startswith(b"text/html")
