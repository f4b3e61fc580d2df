"""WS /stream: receives frames, and answers each with the people in it and their ids."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket

from engines.skeletons import Skeleton
from service.api.hello import HelloMessage
from service.api.problems import ApiError, problem_of
from service.api.socket_channel import SocketChannel, admit, choose_encoding, receive_hello, refusing, serve_socket
from service.api.state import ServerState
from service.batching import Priority
from service.events.frame_events import EventSource
from service.inference.model_registry import ServedModel
from service.inference.stage import InferenceOptions
from service.inference.video_stage import PROCESS_BYTES, StreamDecoder
from service.quota import QuotaExceededError
from service.streams.protocol import CloseCode, Encoding, Hello, StreamError
from service.streams.registry import Beginning
from service.streams.session import Session, SessionLimits

router = APIRouter()
log = logging.getLogger(__name__)

_PAGE = Path(__file__).with_suffix(".md")
_IN_URL = ("model", "session")
"""Parameters that the URL may have. `session` is for load balancers, which see nothing else of a stream."""


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
    with metrics.open.track_inprogress():
        await serve_socket(socket, lambda channel: _serve(server, socket, channel), metrics.closed)


async def _serve(server: ServerState, socket: WebSocket, channel: SocketChannel) -> None:
    """Serve a stream until it raises StreamError or ConnectionError; it does not end in any other way."""
    message = HelloMessage.read(await receive_hello(server, socket, channel, _IN_URL))
    named = socket.query_params.get("model")
    if named and message.model not in (None, named):
        raise StreamError(CloseCode.BAD_HELLO, f"model: the hello says {message.model}, the URL {named}")
    with refusing():
        client = admit(server, socket, message.key)
        served = server.find_model(message.model or named)
        skeleton = server.find_skeleton(served, message.skeleton)
    encoding = choose_encoding(channel, message.format)
    await _run(server, channel, served, skeleton, message.checked(served.skeleton), encoding, client)


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
        workers, owner = server.tracking_workers, f"client {client}"
        with server.memory.take(client, 0) as frames:
            async with (
                _video(server, served, hello, client) as video,
                server.tracking.processor(workers, owner, served, hello, options, skeleton, state, video) as processor,
            ):
                session = Session(
                    channel,
                    hello,
                    encoding,
                    processor,
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
                    publish=EventSource(f"streams/{name}", name, client).publisher(server.events),
                )
                async with streams.hold(beginning.slot, session):
                    embedder = "" if server.tracking.embedder is None else server.tracking.embedder.name
                    await session.run(_welcome(served, skeleton, hello, beginning, streams.resume_seconds, embedder))


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
    served: ServedModel, skeleton: Skeleton, hello: Hello, beginning: Beginning, resume_seconds: float, embedder: str
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
        **({"embedder": embedder} if embedder else {}),
        "resume_seconds": resume_seconds,
    }


def _describe(error: Exception) -> Mapping[str, Any] | None:
    problem = problem_of(error)
    return None if problem is None else problem.document()
