"""WS /stream: receives frames, and answers each with the people in it and their ids."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from engines.skeletons import Skeleton
from service.api.addresses import client_of_scope, peer_of
from service.api.hello import HelloMessage
from service.api.problems import ApiError, problem_of
from service.api.state import ServerState
from service.batching import Priority
from service.events.frame_events import EventSource
from service.inference.model_registry import ServedModel
from service.inference.stage import InferenceOptions
from service.inference.video_stage import PROCESS_BYTES, StreamDecoder
from service.observability.logs import request_id
from service.quota import QuotaExceededError
from service.streams.frame_processor import FrameProcessor
from service.streams.protocol import SUBPROTOCOLS, CloseCode, Encoding, Hello, StreamError
from service.streams.registry import Beginning
from service.streams.session import Session, SessionLimits

router = APIRouter()
log = logging.getLogger(__name__)

_PAGE = Path(__file__).with_suffix(".md")
_HELLO_S = 10.0
"""How long a client may take to send its hello."""
_CLOSE_S = 1.0
"""How long sending a close frame may take. A client that does not read never receives it."""
_IN_URL = ("model", "session")
"""Parameters that the URL may have. `session` is for load balancers, which see nothing else of a stream."""
_REFUSALS = {
    "unauthorized": CloseCode.UNAUTHORIZED,
    "rate-limited": CloseCode.RATE_LIMITED,
    "unknown-model": CloseCode.UNKNOWN_MODEL,
    "unknown-skeleton": CloseCode.BAD_HELLO,
    "overloaded": CloseCode.TRY_LATER,
}


@router.get("/docs/stream", summary="How to write a client of WS /stream", response_class=PlainTextResponse)
def page() -> str:
    """The protocol for readers: messages, examples, close codes."""
    return _PAGE.read_text("utf-8")


@router.get("/stream", include_in_schema=False)
def no_websocket() -> None:
    """Answer plain HTTP requests, also those of a proxy that drops the upgrade."""
    raise ApiError("bad-request", "this is a websocket, and the request asks for none; see GET /docs/stream")


@router.websocket("/stream")
async def stream(socket: WebSocket) -> None:
    """Serve one stream, from its handshake to its close code. GET /docs/stream describes the protocol."""
    server = ServerState.of(socket)
    metrics = server.metrics.streams
    marked = request_id.set(secrets.token_hex(8))
    channel = SocketChannel(socket)
    began = time.perf_counter()
    code, reason = int(CloseCode.FAILED), "the server failed; its log says why"
    metrics.open.inc()
    try:
        await _serve(server, socket, channel)
    except ConnectionError:
        code = channel.code
    except StreamError as error:
        code, reason = int(error.code), error.reason
        await channel.close(code, reason)
    except Exception as error:
        log.error("a stream failed", exc_info=error)
        await channel.close(code, reason)
    finally:
        metrics.open.dec()
        metrics.closed(code)
        extra = {"status": code, "ms": round((time.perf_counter() - began) * 1e3), "client": peer_of(socket.scope)}
        log.info("WS /stream %d", code, extra=extra)
        request_id.reset(marked)


class SocketChannel:
    """A websocket as a `Channel`. code: the client's close code, 1006 until there is one."""

    def __init__(self, socket: WebSocket) -> None:
        self.code = 1006
        self._socket = socket

    async def accept(self, subprotocol: str | None) -> None:
        """Finish the handshake. Raises ConnectionError if the client has left."""
        try:
            await self._socket.accept(subprotocol)
        except OSError as error:
            raise ConnectionResetError("the client has left") from error

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


async def _serve(server: ServerState, socket: WebSocket, channel: SocketChannel) -> None:
    """Serve a stream until it raises StreamError or ConnectionError; it does not end in any other way."""
    offered = socket.scope["subprotocols"]
    known = next((name for name in offered if name in SUBPROTOCOLS), None)
    await channel.accept(known)
    if offered and known is None:
        raise StreamError(CloseCode.BAD_HELLO, f"subprotocol: this server speaks {' and '.join(SUBPROTOCOLS)}")
    message = await _receive_hello(server, socket, channel)
    try:
        key = message.key.get_secret_value()  # browsers cannot set headers
        client = server.keys.check({"x-api-key": key} if key else socket.headers) or client_of_scope(socket.scope)
        server.rate_limit.take(client)
        served = server.find_model(message.model)
        skeleton = server.find_skeleton(served, message.skeleton)
    except ApiError as problem:
        raise StreamError(_REFUSALS[problem.kind], problem.detail) from problem
    encoding = SUBPROTOCOLS[known] if known else message.format or "json"
    if message.format not in (None, encoding):
        raise StreamError(CloseCode.BAD_HELLO, f"format: {message.format} contradicts the subprotocol {known}")
    await _run(server, channel, served, skeleton, message.checked(), encoding, client)


async def _receive_hello(server: ServerState, socket: WebSocket, channel: SocketChannel) -> HelloMessage:
    for name in socket.query_params:
        if name not in _IN_URL:
            raise StreamError(CloseCode.BAD_HELLO, f"parameter {name}: only {' and '.join(_IN_URL)} may be in the URL")
    timeout = min(_HELLO_S, server.settings.idle_seconds)
    with server.streams.greeting(client_of_scope(socket.scope)):
        try:
            async with asyncio.timeout(timeout):
                first = await channel.receive()
        except TimeoutError as error:
            raise StreamError(CloseCode.SILENT, f"no hello came within {timeout:g} s") from error
    hello = HelloMessage.read(first)
    named = socket.query_params.get("model")
    if named and hello.model not in (None, named):
        raise StreamError(CloseCode.BAD_HELLO, f"model: the hello says {hello.model}, the URL {named}")
    return hello.model_copy(update={"model": hello.model or named})


async def _run(
    server: ServerState,
    channel: SocketChannel,
    served: ServedModel,
    skeleton: Skeleton,
    hello: Hello,
    encoding: Encoding,
    client: str,
) -> None:
    """Begin or resume a session, and serve it with a slot, memory and a tracker of its own. skeleton: of results."""
    settings, streams = server.settings, server.streams
    async with streams.begin(hello, served.skeleton, client) as beginning:
        name, state = beginning.slot.session, beginning.state
        options = InferenceOptions(
            client=client,
            priority=Priority.LIVE,
            max_people=min(hello.max_people or settings.max_people, settings.max_people),
            min_score=hello.min_score,
            lease=server.memory.take(client, 0),
        )
        server.metrics.streams.began(token=bool(hello.resume), resumed=state is not None)
        with server.memory.take(client, 0) as frames:
            async with (
                _video(server, served, hello, client) as video,
                server.tracking_workers.stream(served.skeleton, hello.tracking, state) as tracked,
            ):
                session = Session(
                    channel,
                    hello,
                    encoding,
                    FrameProcessor(served.pipeline, tracked, hello, options, skeleton, video),
                    SessionLimits(frame=settings.timeout_ms / 1000, idle=settings.idle_seconds),
                    streams.limiter(served.model.name),
                    token=lambda sequence, next_id: streams.token(name, sequence, next_id),
                    describe=_describe,
                    observer=server.metrics.streams,
                    sequence=beginning.sequence,
                    last=math.nan if state is None else state.tracker.timestamp,
                    gap=beginning.gap,
                    client=client,
                    memory=frames,
                    publish=EventSource(f"streams/{name}", name).publisher(server.events),
                )
                async with streams.hold(beginning.slot, session):
                    await session.run(_welcome(served, skeleton, hello, beginning, streams.resume_seconds))


@asynccontextmanager
async def _video(
    server: ServerState, served: ServedModel, hello: Hello, client: str
) -> AsyncIterator[StreamDecoder | None]:
    """The decoder of a stream of video, with its memory. Raises StreamError if there is not enough."""
    if hello.video is None:
        yield None
        return
    try:
        memory = server.memory.take(client, PROCESS_BYTES)
    except QuotaExceededError as error:
        raise StreamError(CloseCode.TRY_LATER, "this server has no memory left for another video") from error
    with memory, served.pipeline.open_video(hello.video, memory) as decoder:
        yield decoder


def _welcome(
    served: ServedModel, skeleton: Skeleton, hello: Hello, beginning: Beginning, resume_seconds: float
) -> dict[str, Any]:
    return {
        "session": beginning.slot.session,
        "resumed": beginning.state is not None,
        **({"detail": beginning.detail} if beginning.detail else {}),
        "model": served.model.name,
        "skeleton": skeleton.name,
        "keypoints": skeleton.keypoints,
        "window": hello.window,
        **({"video": hello.video} if hello.video else {}),
        "resume_seconds": resume_seconds,
    }


def _describe(error: Exception) -> Mapping[str, Any] | None:
    problem = problem_of(error)
    return None if problem is None else problem.document()
