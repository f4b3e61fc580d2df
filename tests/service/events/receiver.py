"""A real HTTP receiver of webhooks that can fail in every way."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def answer(status: int, *headers: str, body: bytes = b"") -> bytes:
    """A whole answer."""
    lines = (f"HTTP/1.1 {status} X", *headers, f"content-length: {len(body)}", "", "")
    return "\r\n".join(lines).encode() + body


@dataclass(frozen=True, slots=True)
class Request:
    """A request that came. headers: by name in lower case."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document


@dataclass(eq=False)
class Receiver:
    """Listens on the loopback. faults: what it does with the next requests instead of answering 200: bytes to answer,
    `close` before or `cut` amid an answer, `hang`, `drip` bytes without an end, `slow`. always: with every request.
    tls: its certificate.
    """

    faults: deque[bytes | str] = field(default_factory=deque)
    always: bytes | str = _OK
    port: int = 0
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    accepted: list[Request] = field(default_factory=list)
    held: int = 0

    async def __aenter__(self) -> Self:
        self._connections: set[asyncio.Task[None]] = set()
        await self.listen()
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.refuse()

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}/hook"

    async def listen(self) -> None:
        """Accept connections, always on the same port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Refuse connections, and cut those that are open."""
        self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def ids(self) -> list[str]:
        """The ids of the events that it has accepted, in their order."""
        return [request.event["id"] for request in self.accepted]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        request = Request(headers, await reader.readexactly(int(headers["content-length"])))
        self.requests.append(request)
        what = self.faults.popleft() if self.faults else self.always
        match what:
            case "close":
                return False
            case "cut":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
                await writer.drain()
                return False
            case "hang":
                self.held += 1
                await asyncio.Event().wait()
            case "drip":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
                self.held += 1
                while True:
                    writer.write(b".")
                    await writer.drain()
                    await asyncio.sleep(0.05)
            case "slow":
                self.accepted.append(request)
                for byte in _OK:
                    writer.write(bytes((byte,)))
                    await writer.drain()
                    await asyncio.sleep(0.001)
            case bytes():
                if what.split(b" ", 2)[1].startswith(b"2"):
                    self.accepted.append(request)
                writer.write(what)
                await writer.drain()
        return True
