"""One websocket of a stream."""

from __future__ import annotations

import asyncio
import struct
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson
import ormsgpack
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from service.client.errors import ProblemError, StreamEndedError

_SUBPROTOCOL = Subprotocol("posewire.msgpack.v1")
_OPEN_S = 5.0
"""For a handshake, and again for the welcome."""
_CLOSE_S = 0.5
_LARGEST = 64 * 2**20
_PASSING_STATUS = (429, 500, 502, 503, 504)
_PASSING_CODES = (1000, 1001, 1005, 1006, 1011, 1012, 1013, 4408, 4410, 4429)
"""After which a stream can go on: here later, or elsewhere."""
_REFUSING_CODES = (1011, 1013, 4429)
"""Of a server that is there: it has failed, is full, or has had too many streams begun."""


class LostError(Exception):
    """The connection is gone, or was not to be had; another may be. The message says why.

    code: of its close. refused: the server is there, and wants to be left alone for a while. retry_after: seconds that
    it has named for that.
    """

    def __init__(self, why: str, code: int = 1006, *, refused: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(why)
        self.code = code
        self.refused = refused
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class SentFrame:
    """A frame. number: over all connections. timestamp: milliseconds."""

    number: int
    timestamp: float
    data: bytes


class Connection:
    """A websocket, from its handshake on.

    leaving: the server goes down soon. useful: a frame got its result. quiet: no frame waits for a result.
    newest: number of the last frame sent. why: the session that was asked for does not go on here.
    All raise LostError, or StreamEndedError for what another try would not change.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.leaving = asyncio.Event()
        self.quiet = asyncio.Event()
        self.quiet.set()
        self.newest = -1
        self.why = ""
        self.useful = False
        self._began = time.monotonic()
        self._socket = socket
        self._sent: deque[tuple[int, int]] = deque()  # the server's number of a frame, and ours
        self._count = 0

    @property
    def age(self) -> float:
        """Seconds since the handshake."""
        return time.monotonic() - self._began

    @staticmethod
    async def open(url: str, headers: Mapping[str, str], session: str) -> Connection:
        """Shake hands. session: the last one's, by which a load balancer may find the server that knew it."""
        query = f"?{urlencode({'session': session})}" if session else ""
        try:
            socket = await connect(
                f"{url.replace('http', 'ws', 1)}/stream{query}",
                compression=None,
                subprotocols=[_SUBPROTOCOL],
                additional_headers=headers,
                open_timeout=_OPEN_S,
                close_timeout=_CLOSE_S,
                max_size=_LARGEST,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            if status not in _PASSING_STATUS:
                raise ProblemError(status, "", f"{url}/stream is no stream of Posewire's") from error
            named = error.response.headers.get("Retry-After", "")
            retry_after = float(named) if named.isdecimal() else 0.0
            raise LostError(f"{url} answered {status}", refused=retry_after > 0, retry_after=retry_after) from error
        except (OSError, TimeoutError, InvalidHandshake) as error:
            raise LostError(f"{url}: {str(error) or type(error).__name__}") from error
        return Connection(socket)

    async def greet(self, hello: Mapping[str, Any]) -> Mapping[str, Any]:
        """Say hello. Returns the welcome."""
        try:
            async with asyncio.timeout(_OPEN_S):
                await self._socket.send(orjson.dumps(hello).decode())
                return await self.hear()
        except TimeoutError as error:
            raise LostError(f"no welcome within {_OPEN_S:g} s") from error
        except ConnectionClosed as closed:
            raise _lost(closed) from closed

    async def show(self, picture: SentFrame) -> None:
        """Send a frame."""
        self.newest = picture.number
        self._sent.append((self._count, picture.number))
        self._count += 1
        self.quiet.clear()
        try:
            await self._socket.send(struct.pack(">d", picture.timestamp) + picture.data)
        except ConnectionClosed as closed:
            raise _lost(closed) from closed

    async def hear(self) -> Mapping[str, Any]:
        """The next message."""
        try:
            message: Mapping[str, Any] = ormsgpack.unpackb(await self._socket.recv(decode=False))
        except ConnectionClosed as closed:
            raise _lost(closed) from closed
        if message["type"] == "go_away":
            self.leaving.set()
        elif message["type"] == "result":
            self.useful = True
        return message

    def number(self, frame: int) -> int:
        """Our number of a frame that the server has answered, who will answer none before it any more."""
        number = -1
        while self._sent and self._sent[0][0] <= frame:
            number = self._sent.popleft()[1]
        if not self._sent:
            self.quiet.set()
        return number

    async def acknowledge(self, frame: int) -> None:
        """Say that a result is handled, to a server that may be gone."""
        with suppress(ConnectionClosed):
            await self._socket.send(orjson.dumps({"ack": frame}).decode())

    async def close(self) -> None:
        """Leave in good order, from a server that has some time to agree."""
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._socket.close()
                await self._socket.wait_closed()
        except TimeoutError:
            self._socket.transport.abort()


def _lost(closed: ConnectionClosed) -> LostError | StreamEndedError:
    """What a close of the server's means."""
    code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "the connection was lost")
    if code not in _PASSING_CODES:
        return StreamEndedError(code, reason)
    return LostError(f"{code} {reason}".rstrip(), code, refused=code in _REFUSING_CODES)
