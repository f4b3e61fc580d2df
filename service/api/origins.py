"""Which pages may use this server from a browser, and what its own pages may load."""

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


def allows_origin(origin: str, host: str, named: Sequence[str]) -> bool:
    """Whether a page of this origin may open a stream.

    Browsers send the Origin of the page with each websocket, whatever other site it is of; other clients send none. A
    page may where the server itself serves it (its host and port are those of the Host header; the scheme may differ
    behind a proxy that ends TLS), or where `named` has its origin, or `*`.
    """
    if not origin or "*" in named or origin in named:
        return True
    page = urlsplit(origin)
    try:
        return bool(page.hostname) and _place(origin) == _place(f"{page.scheme}://{host}")
    except ValueError:  # a port that is none
        return False


def _place(url: str) -> tuple[str | None, int | None]:
    parts = urlsplit(url)
    return parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)


@lru_cache(16)
def content_security_policy(page: bytes) -> str:
    """The Content-Security-Policy of an HTML page of ours: it loads from this server alone, and runs the scripts that
    stand in it as they are.
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
    """ASGI middleware that sends a Content-Security-Policy with each HTML page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        head: Message | None = None  # of a page, until its body is there to be hashed

        async def send_with_policy(message: Message) -> None:
            nonlocal head
            if message["type"] == "http.response.start" and _is_page(message):
                head = message
                return
            if head is not None:
                policy = content_security_policy(bytes(message.get("body", b"")))
                head["headers"] = [*head["headers"], (b"content-security-policy", policy.encode())]
                await send(head)
                head = None
            await send(message)

        await self._app(scope, receive, send_with_policy)


def _is_page(message: Message) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/html") for name, value in message["headers"])
