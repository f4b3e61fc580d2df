"""One websocket connection of a stream."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from .attempts import reason, retry_after
from .errors import ProblemError, StreamEndedError

_SUBPROTOCOL = Subprotocol("posewire.json.v1")
_OPEN_S = 5.0
"""Time limit of the handshake, and of the wait for the welcome."""
_CLOSE_S = 0.5
_LARGEST = 64 * 2**20
_TEMPORARY_STATUS = (429, 500, 502, 503, 504)
_TEMPORARY_CODES = (1000, 1001, 1005, 1006, 1011, 1012, 1013, 4408, 4410, 4429)
"""Close codes after which the stream can continue, here later or on another server."""
_REFUSING_CODES = (1011, 1013, 4429)
"""Close codes of a running server: it has failed, is full, or has started too many streams."""


class LostError(Exception):
    """The connection was lost or could not be opened. Another attempt may succeed. The message says why.

    code: close code. refused: True if the server is running but refuses connections for a while. retry_after: the
    seconds that it asked for.
    """

    def __init__(self, why: str, code: int = 1006, *, refused: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(why)
        self.code = code
        self.refused = refused
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class SentFrame:
    """A frame. number: counted across all connections. timestamp: milliseconds. data: as the caller has sent it."""

    number: int
    timestamp: float
    data: Any


class Connection:
    """An open websocket.

    leaving: set when the server announces its shutdown. useful: True once a frame has a result. quiet: set while no
    frame waits for a result. newest: number of the last frame sent. why: why the session was not resumed; or "".
    Methods raise LostError, or StreamEndedError if another attempt would not help.
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
        self._sent: deque[tuple[int, int]] = deque()  # the server's number of a frame, and this client's
        self._count = 0

    @property
    def age(self) -> float:
        """Seconds since the handshake."""
        return time.monotonic() - self._began

    @staticmethod
    async def open(url: str, headers: Mapping[str, str], path: str) -> Connection:
        """Connect. path: relative to the URL of the server."""
        try:
            socket = await connect(
                f"{url.replace('http', 'ws', 1)}/{path}",
                compression=None,
                subprotocols=[_SUBPROTOCOL],
                additional_headers=headers,
                open_timeout=_OPEN_S,
                close_timeout=_CLOSE_S,
                max_size=_LARGEST,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            if status not in _TEMPORARY_STATUS:
                raise ProblemError(status, "", f"{url}/{path} is no stream of Posewire's") from error
            pause = retry_after(error.response.headers)
            raise LostError(f"{url} answered {status}", refused=pause > 0, retry_after=pause) from error
        except (OSError, TimeoutError, InvalidHandshake) as error:
            raise LostError(reason(url, error)) from error
        return Connection(socket)

    async def greet(self, hello: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send the hello. Returns the welcome."""
        try:
            async with asyncio.timeout(_OPEN_S):
                await self._socket.send(json.dumps(hello))
                return await self.receive()
        except TimeoutError as error:
            raise LostError(f"no welcome within {_OPEN_S:g} s") from error
        except ConnectionClosed as closed:
            raise _lost(closed) from closed

    async def send(self, frame: SentFrame, data: bytes) -> None:
        """Send a frame. data: its picture, or chunk of video."""
        self.newest = frame.number
        self._sent.append((self._count, frame.number))
        self._count += 1
        self.quiet.clear()
        try:
            await self._socket.send(struct.pack(">d", frame.timestamp) + data)
        except ConnectionClosed as closed:
            raise _lost(closed) from closed

    async def receive(self) -> Mapping[str, Any]:
        """Receive the next message."""
        try:
            message: Mapping[str, Any] = json.loads(await self._socket.recv())
        except ConnectionClosed as closed:
            raise _lost(closed) from closed
        if message["type"] == "go_away":
            self.leaving.set()
        elif message["type"] == "result":
            self.useful = True
        return message

    def number(self, frame: int) -> int:
        """Return the number of a frame that the server has answered. Earlier frames will get no answer."""
        number = -1
        while self._sent and self._sent[0][0] <= frame:
            number = self._sent.popleft()[1]
        if not self._sent:
            self.quiet.set()
        return number

    async def acknowledge(self, frame: int) -> None:
        """Acknowledge a result. Does nothing if the connection is closed."""
        with suppress(ConnectionClosed):
            await self._socket.send(json.dumps({"ack": frame}))

    async def close(self) -> None:
        """Close the websocket. Aborts it if the server does not answer in time."""
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._socket.close()
                await self._socket.wait_closed()
        except TimeoutError:
            self._socket.transport.abort()


def _lost(closed: ConnectionClosed) -> LostError | StreamEndedError:
    """Convert the close of a connection to an error."""
    code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "the connection was lost")
    if code not in _TEMPORARY_CODES:
        return StreamEndedError(code, reason)
    return LostError(f"{code} {reason}".rstrip(), code, refused=code in _REFUSING_CODES)
