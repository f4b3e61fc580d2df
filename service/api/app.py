"""The application: routes, the gate in front of them, and what happens at start and at the end."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import cache
from itertools import count
from types import FrameType

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.responses import Response

from engines.cores import usable_cores
from engines.runtimes.nvml import Gpus
from service import __version__
from service.api import info, pose, stream
from service.api.addresses import Proxies
from service.api.connections import Connections, most_connections
from service.api.examples import DESCRIPTION
from service.api.gate import RequestMiddleware
from service.api.openapi import complete
from service.api.origins import PagePolicy
from service.api.problems import ApiError, bad_parameter
from service.api.reloading import reloading
from service.api.security import ApiKeys, RateLimit
from service.api.state import ServerState
from service.batching import BatchObserver
from service.config import Settings
from service.inference.model_registry import Serving
from service.observability.metrics import Metrics
from service.process.memory import memory_limit, use_huge_pages
from service.process.supervisor import Supervisor, attempt
from service.process.tls import ServerTls
from service.quota import Quota
from service.streams.registry import Streams
from service.streams.store.base import Store
from service.streams.store.memory import MemoryStore
from service.streams.store.redis import RedisStore
from service.streams.tokens import Tokens
from service.tracking_workers.pool import TrackingWorkers

log = logging.getLogger(__name__)

_TURN_S = 1.0
"""How often the house is kept, and so how old the gauges of /metrics may be."""
_IDLE_TURNS = 10
_BUSY_TURNS = 5
_END_S = 10.0
"""How long each part of the server may take to end before the next one is ended."""


def create_app(
    settings: Settings, open_models: Callable[[BatchObserver], Serving], tls: ServerTls | None = None
) -> RequestMiddleware:
    """The server as an ASGI application. open_models: blocks until the models are warm; called once, at start.
    tls: whose certificate is read anew at SIGHUP.

    Raises ValueError or OSError for API keys that cannot be read.
    """
    metrics = Metrics()
    supervisor = Supervisor(metrics.task_ended)
    memory = Quota("bytes of memory", memory_budget(settings), settings.client_share)
    state = ServerState(
        settings=settings,
        metrics=metrics,
        keys=ApiKeys.read(settings.api_keys, settings.api_keys_file),
        rate_limit=RateLimit(settings.rate, settings.burst),
        streams=_open_streams(settings, metrics, supervisor),
        tracking_workers=_open_tracking_workers(settings, metrics),
        connections=Connections(
            most_connections(settings.max_connections),
            settings.client_share,
            Proxies(settings.proxies),
            memory=memory,
            head_seconds=settings.head_seconds,
            stall_seconds=settings.stall_seconds,
            refused=metrics.connection_refused,
        ),
        requests=Quota("requests under way", settings.max_requests, settings.client_share),
        memory=memory,
        parser=ThreadPoolExecutor(1, thread_name_prefix="posewire-parse"),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[Mapping[str, object]]:
        async with AsyncExitStack() as stack:
            stack.enter_context(reloading(state, supervisor, tls))
            try:
                await _begin(state, supervisor, stack, open_models)
            except Exception as error:
                log.error("the server cannot start: %s", str(error) or type(error).__name__)
                raise
            yield {"connections": state.connections}

    app = FastAPIOffline(  # its page brings its own script and style: a server may stand where no CDN is reached
        title="Posewire",
        version=__version__,
        summary="Everybody's pose in an image: POST it to /pose.",
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        static_url="/docs/assets",
        redirect_slashes=False,  # a body sent twice helps nobody
    )
    app.state.server = state
    derive = app.openapi
    app.openapi = cache(lambda: complete(derive(), settings, keys=bool(state.keys.digests)))  # type: ignore[method-assign]
    app.add_middleware(PagePolicy)
    app.include_router(pose.router, tags=["pose"])
    app.include_router(stream.router, tags=["stream"])
    app.include_router(info.router, tags=["server"])
    app.add_exception_handler(ApiError, _problem)
    app.add_exception_handler(RequestValidationError, _bad_parameter)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _defect)
    return RequestMiddleware(app, state, direct={("POST", "/pose"): pose.answer})


async def _begin(
    state: ServerState, supervisor: Supervisor, stack: AsyncExitStack, open_models: Callable[[BatchObserver], Serving]
) -> None:
    """Start all that serves, and give `stack` what ends it: in the reverse order, also where a later step fails."""

    def at_end(name: str, work: Callable[[], Awaitable[object]], seconds: float = _END_S) -> None:
        async def end() -> None:
            await attempt(name, seconds, work())

        stack.push_async_callback(end)

    def grace() -> float:
        return max(0.0, min(state.settings.grace_seconds, state.leave_by - time.monotonic()))

    stack.callback(state.parser.shutdown, wait=False, cancel_futures=True)
    at_end("ending background tasks", supervisor.close)
    at_end("ending trackers", state.tracking_workers.close)
    serving = await asyncio.to_thread(open_models, state.metrics)
    at_end("ending networks", lambda: serving.close(grace()), state.settings.grace_seconds + 2 * _END_S)
    await serving.start()
    serving.build_plans()
    stack.callback(setattr, state, "serving", None)
    at_end("closing the store of streams", state.streams.stop)
    await state.streams.start()
    at_end("ending streams", state.streams.close)
    gc.freeze()  # what lives as long as the process need not be looked at by every collection
    state.serving = serving
    house = supervisor.keep("house", lambda: _keep_house(state, serving), longest_pause=_TURN_S)
    stack.callback(house.cancel)
    stack.enter_context(_draining(state, supervisor))


def _open_streams(settings: Settings, metrics: Metrics, supervisor: Supervisor) -> Streams:
    # A token is as old as its client's last result, which may be all of the idle time at the stream's end. Servers'
    # clocks may differ by another resume time.
    key, url = settings.resume_key.get_secret_value(), settings.redis_url.get_secret_value()
    tokens = Tokens(key, round(settings.idle_seconds) + 2 * settings.resume_seconds)
    store: Store = MemoryStore()
    if url:
        store = RedisStore(url, tokens=None if key else tokens, observer=metrics.store, supervisor=supervisor)
    return Streams(
        store,
        tokens,
        most=settings.max_streams,
        share=settings.client_share,
        resume_seconds=settings.resume_seconds,
        idle_seconds=settings.idle_seconds,
        checkpoint_seconds=settings.checkpoint_ms / 1000,
        supervisor=supervisor,
    )


def memory_budget(settings: Settings) -> int:
    """The bytes that one process may spend on what clients send and get.

    Three quarters are for the rest: networks, trackers, decoders, Python.
    """
    return settings.memory_mb * 1_000_000 or memory_limit() // (4 * settings.workers)


def _open_tracking_workers(settings: Settings, metrics: Metrics) -> TrackingWorkers:
    return TrackingWorkers(
        settings.trackers or max(1, usable_cores(settings.workers) // 4),
        streams=2 * settings.max_streams,  # one that ends may still have its place when another begins
        frame_bytes=3 * int(settings.max_pixels_m * 1e6),
        hang_after=settings.hang_seconds,
        replaced=metrics.streams.tracker_replaced,
    )


async def _keep_house(state: ServerState, serving: Serving) -> None:
    """Refresh the gauges, log what was refused, and see to the memory: what lasts goes onto huge pages at the start and
    once work has gone on for a while, and once there is none for a while the networks give theirs back.
    """
    answered, refused, idle, busy = 0, state.refused, 0, 0
    gpus = await asyncio.to_thread(Gpus)
    for turn in count():
        if gpus:
            state.metrics.gpus.refresh(await asyncio.to_thread(gpus.read))
        depths = {batcher.name: batcher.stats.waiting_units for batcher in serving.batchers}
        state.metrics.refresh(
            ready=not state.unready(),
            depths=depths,
            connections=state.connections.quota.held,
            memory=state.memory.held,
        )
        for name, runtime in tuple(serving.runtimes.items()):
            fallback = serving.fell_back(name, state.settings.precision)
            state.metrics.networks.refresh(name, runtime.spec, fallback=fallback)
        if state.refused > refused:
            log.warning("%d requests were refused", state.refused - refused)
            refused = state.refused
        await state.streams.reap()
        await state.tracking_workers.revive()
        works = bool(state.requests.held or len(state.streams) or state.answered != answered)
        idle, busy = 0 if works else idle + 1, busy + works
        answered = state.answered
        if idle == _IDLE_TURNS:
            await asyncio.to_thread(serving.release)
            busy = 0
        if turn == 0 or (works and busy == _BUSY_TURNS):
            await asyncio.to_thread(use_huge_pages)
        await asyncio.sleep(_TURN_S)


@contextmanager
def _draining(state: ServerState, supervisor: Supervisor) -> Iterator[None]:
    """At SIGTERM fail /readyz first and keep serving for `drain_seconds`, then hand the signal on to the server.

    Streams are told at once, and ended before that. A second signal, or Ctrl-C, ends the wait at once.
    """
    loop = asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only: this is a server inside of a test
        return
    stop = signal.getsignal(signal.SIGTERM)

    async def leave(wait: float) -> None:
        farewell = supervisor.once("farewell", state.streams.go_away(wait))
        await asyncio.sleep(wait)
        try:
            await state.streams.close()
            farewell.cancel()
        finally:
            if callable(stop):
                stop(signal.SIGTERM, None)

    def drain(_number: int, _frame: FrameType | None) -> None:
        wait = 0.0 if state.draining else state.settings.drain_seconds
        state.draining = True
        state.leave_by = min(state.leave_by, time.monotonic() + wait + state.settings.grace_seconds)
        loop.call_soon_threadsafe(lambda: supervisor.once("leave", leave(wait)))

    signal.signal(signal.SIGTERM, drain)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, stop)


async def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - what it is registered for
    return error.response()


async def _defect(_: Request, _error: Exception) -> Response:
    return ApiError("internal", "the server failed on this request; its log says why").response()


async def _bad_parameter(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - what it is registered for
    return bad_parameter(error.errors(), skip=1).response()


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        problem = ApiError("method-not-allowed", f"{request.url.path[:200]} takes {allowed}, not {request.method}")
        problem.headers["allow"] = allowed
    elif error.status_code == 404:
        problem = ApiError("not-found", f"there is nothing at {request.url.path[:200]}")
    else:
        problem = ApiError("bad-request", str(error.detail))
    return problem.response()
