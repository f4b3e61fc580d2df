"""A client of streams, written from the description of the protocol."""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import ormsgpack
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

Message = dict[str, Any]


class Stream:
    """An open stream. acknowledge: acknowledge every result when it is received."""

    def __init__(self, socket: ClientConnection, acknowledge: bool) -> None:
        self.socket = socket
        self.welcome: Message = {}
        self._acknowledge = acknowledge

    async def send(self, picture: bytes, timestamp: float | None = None) -> None:
        """Send a frame. timestamp: milliseconds, if the hello announced timestamps."""
        await self.socket.send(picture if timestamp is None else struct.pack(">d", timestamp) + picture)

    async def receive(self) -> Message:
        """Return the next message."""
        data = await self.socket.recv()
        message: Message = ormsgpack.unpackb(data) if isinstance(data, bytes) else json.loads(data)
        if self._acknowledge and "frame" in message:
            await self.acknowledge(message["frame"])
        return message

    async def ask(self, picture: bytes, timestamp: float | None = None) -> Message:
        """Send a frame and return the next message."""
        await self.send(picture, timestamp)
        return await self.receive()

    async def acknowledge(self, frame: int) -> None:
        """Acknowledge all results up to this frame's."""
        await self.socket.send(json.dumps({"ack": frame}))

    async def result(self) -> Message:
        """Return the next result, and skip other messages."""
        while (message := await self.receive())["type"] != "result":
            pass
        return message

    async def ending(self) -> tuple[int, str]:
        """Return the close code and reason, and ignore messages before."""
        try:
            while True:
                await self.socket.recv()
        except ConnectionClosed as closed:
            return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")


@asynccontextmanager
async def stream(
    port: int,
    *,
    path: str = "/stream",
    subprotocols: Sequence[str] = (),
    headers: dict[str, str] | None = None,
    acknowledge: bool = True,
    **hello: Any,
) -> AsyncIterator[Stream]:
    """Open a stream and receive its welcome. The keywords are members of the hello.

    The detector runs on every frame by default: the small estimators of tests do not find a person in another box.
    """
    async with connected(port, path=path, subprotocols=subprotocols, headers=headers) as socket:
        await socket.send(json.dumps({"detect_every": 0, **hello}))
        opened = Stream(socket, acknowledge)
        opened.welcome = await opened.receive()
        assert opened.welcome["type"] == "welcome"
        yield opened


@asynccontextmanager
async def watch(
    port: int,
    camera: str,
    *,
    subprotocols: Sequence[str] = (),
    headers: dict[str, str] | None = None,
    acknowledge: bool = True,
    **hello: Any,
) -> AsyncIterator[Stream]:
    """Watch the results of a camera. The keywords are members of the hello."""
    path = f"/cameras/{camera}/results"
    async with connected(port, path=path, subprotocols=subprotocols, headers=headers) as socket:
        await socket.send(json.dumps(hello))
        opened = Stream(socket, acknowledge)
        opened.welcome = await opened.receive()
        assert opened.welcome["type"] == "welcome"
        yield opened


@asynccontextmanager
async def connected(
    port: int, *, path: str = "/stream", subprotocols: Sequence[str] = (), headers: dict[str, str] | None = None
) -> AsyncIterator[ClientConnection]:
    """Open a connection without sending a hello."""
    async with connect(
        f"ws://127.0.0.1:{port}{path}",
        compression=None,
        subprotocols=[Subprotocol(name) for name in subprotocols] or None,
        additional_headers=headers,
        close_timeout=2,
    ) as socket:
        yield socket


async def refusal(port: int, hello: str | bytes | None = None, **options: Any) -> tuple[int, str]:
    """Return the close code and reason that a hello, or no hello, gets."""
    async with connected(port, **options) as socket:
        if hello is not None:
            with suppress(ConnectionClosed):  # the handshake may have been refused already
                await socket.send(hello)
        return await Stream(socket, acknowledge=False).ending()
