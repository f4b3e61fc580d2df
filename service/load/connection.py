"""HTTP/1.1 over kept-alive connections, with as little processor time as possible: the generator shares the machine."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit


class HttpConnection(asyncio.Protocol):
    """One kept-alive connection; `ask` sends a request and awaits (status, body). Status 0: the connection broke."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.broken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - its signature is given
        self.broken = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((0, b""))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + length or self._answer is None or self._answer.done():
            return
        body = bytes(self._buffer[end + 4 : end + 4 + length])
        del self._buffer[: end + 4 + length]
        self.broken = b"connection: close" in head
        self._answer.set_result((int(head[9:12]), body))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        if self._transport is None:
            raise RuntimeError("the connection has not been opened")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


@dataclass(frozen=True, slots=True)
class Server:
    """Where requests go. url: of a server or load balancer. headers: lines for every request."""

    url: str
    headers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError for a URL that cannot be asked."""
        parts = urlsplit(self.url)
        try:
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and parts.port != 0
        except ValueError:  # the port is no number of a port
            usable = False
        if not usable:
            raise ValueError("the server is named by a URL like http://localhost:8000")

    async def connect(self) -> HttpConnection:
        """Open a connection. Raises OSError."""
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        context = ssl.create_default_context() if secure else None
        loop = asyncio.get_running_loop()
        port = parts.port or (443 if secure else 80)
        _, connection = await loop.create_connection(HttpConnection, parts.hostname or "", port, ssl=context)
        return connection

    def get(self, path: str) -> bytes:
        """A GET request on the wire."""
        return self._request("GET", path, ())

    def post(self, path: str, body: bytes, media_type: str) -> bytes:
        """A POST request on the wire."""
        return self._request("POST", path, (f"Content-Type: {media_type}", f"Content-Length: {len(body)}")) + body

    def _request(self, method: str, path: str, headers: tuple[str, ...]) -> bytes:
        parts = urlsplit(self.url)
        first = f"{method} {parts.path.rstrip('/')}{path} HTTP/1.1"
        return "\r\n".join((first, f"Host: {parts.netloc}", *self.headers, *headers)).encode() + b"\r\n\r\n"
