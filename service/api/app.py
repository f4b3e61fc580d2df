"""The application: its state, its routes, the middleware in front of them, and its error handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import cache

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Route

from engines.cores import usable_cores
from service import __version__
from service.api import camera_pictures, camera_results, cameras, info, lifecycle, pose, stream, videos, web
from service.api.addresses import Proxies
from service.api.connections import Connections, most_connections
from service.api.middleware import RequestMiddleware
from service.api.openapi import DESCRIPTION, complete
from service.api.origins import PagePolicy
from service.api.problems import ApiError, bad_parameter, problem_of
from service.api.security import ApiKeys, RateLimit
from service.api.state import ServerState
from service.batching import BatchingError, BatchObserver
from service.config import Settings
from service.events.events import Events
from service.inference.model_registry import Serving
from service.observability.metrics import Metrics
from service.offline.jobs.job import DiskFullError, JobLimits
from service.offline.jobs.video_jobs import VideoJobs
from service.process.memory import memory_limit
from service.process.supervisor import Supervisor
from service.process.tls import ServerTls
from service.quota import Quota
from service.streams.groups import Groups
from service.streams.registry import Streams
from service.streams.store.base import Store
from service.streams.store.memory import MemoryStore
from service.streams.tokens import Tokens
from service.streams.tracking_parts import TrackingParts
from service.tracking_workers.pool import TrackingWorkers

_ROUTERS = (
    (web.router, ()),
    (pose.router, ("pose",)),
    (stream.router, ("stream",)),
    (camera_results.router, ("cameras",)),
    (camera_pictures.router, ("cameras",)),
    (videos.router, ("videos",)),
    (cameras.router, ("cameras",)),
    (info.router, ("server",)),
)


def create_app(
    settings: Settings, open_models: Callable[[BatchObserver], Serving], tls: ServerTls | None = None
) -> RequestMiddleware:
    """Return the server as an ASGI application.

    open_models: called once, at startup; blocks until the models are warm. tls: its certificate is reloaded at SIGHUP.
    Raises ValueError or OSError if the API keys cannot be read or the folder of data cannot be used.
    """
    metrics = Metrics()
    supervisor = Supervisor(metrics.task_ended)
    # By default a quarter of this process's memory: networks, trackers, decoders and Python need the rest.
    budget = settings.memory_mb * 1_000_000 or memory_limit() // (4 * settings.workers)
    memory = Quota("bytes of memory", budget, settings.client_share)
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
        tracking=TrackingParts(Groups(shared=bool(settings.redis_url.get_secret_value()))),
        events=Events(settings.data, supervisor, metrics.events, lasting=settings.data_lasts),
        videos=_open_videos(settings, metrics, supervisor),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[Mapping[str, object]]:
        async with lifecycle.running(state, supervisor, open_models, tls):
            yield {"connections": state.connections}

    app = FastAPIOffline(  # serves the script and style of /docs itself, for servers that reach no CDN
        title="Posewire",
        version=__version__,
        summary="Everybody's pose in an image: POST it to /pose.",
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        static_url="/docs/assets",
        redirect_slashes=False,  # clients would send the body twice
    )
    app.state.server = state
    derive = app.openapi
    app.openapi = cache(lambda: complete(derive(), settings, keys=bool(state.keys.digests)))  # type: ignore[method-assign]
    app.add_middleware(PagePolicy)
    for router, tags in _ROUTERS:
        app.include_router(router, tags=list(tags))
    for kind in (ApiError, BatchingError, DiskFullError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _answer_error)
    return RequestMiddleware(app, state, direct={("POST", "/pose"): pose.answer, ("GET", "/livez"): info.answer_live})


def _open_streams(settings: Settings, metrics: Metrics, supervisor: Supervisor) -> Streams:
    # A token is as old as its client's last result, so up to the idle time when a stream ends. The clocks of two
    # servers may differ by another resume time.
    key, url = settings.resume_key.get_secret_value(), settings.redis_url.get_secret_value()
    tokens = Tokens(key, round(settings.idle_seconds) + 2 * settings.resume_seconds)
    store: Store = MemoryStore()
    if url:
        from service.streams.store.redis import RedisStore  # slow to import

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


def _open_tracking_workers(settings: Settings, metrics: Metrics) -> TrackingWorkers:
    return TrackingWorkers(
        settings.trackers or max(1, usable_cores(settings.workers) // 4),
        # A stream that is ending may still hold its slot when another begins. Cameras have slots that no stream gets.
        streams=2 * settings.max_streams + settings.max_cameras,
        frame_bytes=3 * int(settings.max_pixels_m * 1e6),
        hang_after=settings.hang_seconds,
        replaced=metrics.streams.tracker_replaced,
    )


def _open_videos(settings: Settings, metrics: Metrics, supervisor: Supervisor) -> VideoJobs | None:
    if settings.data is None or not settings.max_videos:
        return None
    total, hours = int(settings.videos_gb * 1e9), settings.video_hours
    limits = JobLimits(settings.max_videos, total, settings.client_share, hours * 3600)
    return VideoJobs(
        settings.data,
        limits,
        seconds=60 * settings.max_video_minutes,
        pixels=int(settings.max_pixels_m * 1e6),
        supervisor=supervisor,
        counted=metrics.video_jobs,
    )


def _methods(request: Request) -> list[str]:
    """The methods that a path takes. Starlette names only those of the first of its routes."""
    routes = [route for router, _ in _ROUTERS for route in router.routes if isinstance(route, Route)]
    matching = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in matching for method in route.methods or ()})


async def _answer_error(request: Request, error: Exception) -> Response:
    match error:
        case ApiError():
            problem = error
        case RequestValidationError():
            problem = bad_parameter(error.errors(), skip=1)
        case HTTPException(status_code=405):
            allowed = ", ".join(_methods(request)) or (error.headers or {}).get("Allow", "")
            problem = ApiError("method-not-allowed", f"{request.url.path[:200]} takes {allowed}, not {request.method}")
            problem.headers["allow"] = allowed
        case HTTPException(status_code=404):
            problem = ApiError("not-found", f"there is nothing at {request.url.path[:200]}")
        case HTTPException():
            problem = ApiError("bad-request", str(error.detail))
        case _:
            failed = ApiError("internal", "the server failed on this request; its log says why")
            problem = problem_of(error) or failed
    return problem.response()
