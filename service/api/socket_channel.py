"""Websockets as channels: the handshake, the hello, and the close code, for all that begin with a hello."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager, suppress

from pydantic import SecretStr
from starlette.websockets import WebSocket, WebSocketDisconnect

from service.api.addresses import client_of_scope, peer_of
from service.api.problems import ApiError
from service.api.state import ServerState
from service.observability.logs import request_id
from service.streams.protocol import SUBPROTOCOLS, CloseCode, Encoding, StreamError

log = logging.getLogger(__name__)

_HELLO_S = 10.0
"""How long a client may take to send its hello."""
_CLOSE_S = 1.0
"""How long sending a close frame may take. A client that does not read never receives it."""
_REFUSALS = {
    "unauthorized": CloseCode.UNAUTHORIZED,
    "rate-limited": CloseCode.RATE_LIMITED,
    "unknown-model": CloseCode.UNKNOWN_MODEL,
    "not-found": CloseCode.UNKNOWN_CAMERA,
    "unknown-skeleton": CloseCode.BAD_HELLO,
    "overloaded": CloseCode.TRY_LATER,
}


class SocketChannel:
    """A websocket as a `Channel`. code: the client's close code, 1006 until there is one. subprotocol: the chosen."""

    def __init__(self, socket: WebSocket) -> None:
        self.code = 1006
        self.subprotocol: str | None = None
        self._socket = socket

    async def accept(self) -> None:
        """Finish the handshake. Raises ConnectionError if the client has left, StreamError for other subprotocols."""
        offered = self._socket.scope["subprotocols"]
        self.subprotocol = next((name for name in offered if name in SUBPROTOCOLS), None)
        try:
            await self._socket.accept(self.subprotocol)
        except OSError as error:
            raise ConnectionResetError("the client has left") from error
        if offered and self.subprotocol is None:
            raise StreamError(CloseCode.BAD_HELLO, f"subprotocol: this server speaks {' and '.join(SUBPROTOCOLS)}")

    async def receive(self) -> str | bytes:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            self.code = message["code"]
            raise ConnectionResetError("the client has left")
        text: str | None = message.get("text")
        return message["bytes"] if text is None else text

    async def send(self, message: str | bytes) -> None:
        kind = "text" if isinstance(message, str) else "bytes"
        try:
            await self._socket.send({"type": "websocket.send", kind: message})
        except (WebSocketDisconnect, OSError) as error:
            raise ConnectionResetError("the client has left") from error

    async def close(self, code: int, reason: str) -> None:
        """Close the connection. The client may have left or stopped reading."""
        with suppress(TimeoutError, WebSocketDisconnect, OSError):
            async with asyncio.timeout(_CLOSE_S):
                await self._socket.close(code, reason)


async def serve_socket(
    socket: WebSocket,
    serve: Callable[[SocketChannel], Awaitable[None]],
    closed: Callable[[int], None] = lambda _: None,
) -> None:
    """Serve a websocket from its handshake to its close code.

    serve: raises StreamError to close the connection, or ConnectionError once the client has left. closed: called with
    the close code.
    """
    marked = request_id.set(secrets.token_hex(8))
    channel = SocketChannel(socket)
    began = time.perf_counter()
    code, reason = int(CloseCode.FAILED), "the server failed; its log says why"
    try:
        await serve(channel)
    except ConnectionError:
        code = channel.code
    except StreamError as error:
        code, reason = int(error.code), error.reason
        await channel.close(code, reason)
    except Exception as error:
        log.error("a websocket failed", exc_info=error)
        await channel.close(code, reason)
    finally:
        closed(code)
        extra = {"status": code, "ms": round((time.perf_counter() - began) * 1e3), "client": peer_of(socket.scope)}
        log.info("WS %s %d", socket.scope["path"][:200], code, extra=extra)
        request_id.reset(marked)


async def receive_hello(
    server: ServerState, socket: WebSocket, channel: SocketChannel, in_url: Collection[str] = ()
) -> str | bytes:
    """Finish the handshake and return the first message. in_url: the parameters that the URL may have.

    Raises StreamError for other parameters, and if no message comes in time.
    """
    await channel.accept()
    for name in socket.query_params:
        if name not in in_url:
            allowed = f"only {' and '.join(in_url)} may be in the URL" if in_url else "the URL takes none"
            raise StreamError(CloseCode.BAD_HELLO, f"parameter {name[:50]}: {allowed}")
    timeout = min(_HELLO_S, server.settings.idle_seconds)
    with server.streams.greeting(client_of_scope(socket.scope)):
        try:
            async with asyncio.timeout(timeout):
                return await channel.receive()
        except TimeoutError as error:
            raise StreamError(CloseCode.SILENT, f"no hello came within {timeout:g} s") from error


@contextmanager
def refusing() -> Iterator[None]:
    """Turn an ApiError into the StreamError of the same meaning."""
    try:
        yield
    except ApiError as problem:
        raise StreamError(_REFUSALS[problem.kind], problem.detail) from problem


def admit(server: ServerState, socket: WebSocket, key: SecretStr) -> str:
    """Return the client's name. key: of the hello, as browsers cannot set headers. Raises ApiError."""
    given = key.get_secret_value()
    client = server.keys.check({"x-api-key": given} if given else socket.headers) or client_of_scope(socket.scope)
    server.rate_limit.take(client)
    return client


def choose_encoding(channel: SocketChannel, wanted: Encoding | None) -> Encoding:
    """Return the encoding of messages. wanted: the hello's format. Raises StreamError if the subprotocol is another."""
    known = channel.subprotocol
    encoding = SUBPROTOCOLS[known] if known else wanted or "json"
    if wanted not in (None, encoding):
        raise StreamError(CloseCode.BAD_HELLO, f"format: {wanted} contradicts the subprotocol {known}")
    return encoding
