"""The lifecycle of a server: startup, housekeeping, reload at SIGHUP, drain at SIGTERM, and shutdown."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from itertools import count
from typing import Any

from engines.runtimes.nvml import Gpus
from engines.skeletons import Skeleton
from service.api.camera_setup import note_cameras, read_camera_file, reload_cameras, start_cameras
from service.api.problems import ApiError
from service.api.security import ApiKeys
from service.api.state import ServerState
from service.api.video_documents import share_jobs
from service.batching import BatchObserver
from service.inference.model_registry import Serving
from service.offline.jobs.job import JobProblem
from service.offline.jobs.process import JobFailedError
from service.offline.resumable_tracking import FrameEstimator, ServedEstimator
from service.process.memory import use_huge_pages
from service.process.supervisor import Supervisor, attempt
from service.process.tls import CertificateError, ServerTls

log = logging.getLogger(__name__)

_HOUSEKEEPING_S = 1.0
"""Seconds between two rounds of housekeeping; also the greatest age of the gauges in /metrics."""
_IDLE_ROUNDS = 10
"""Idle rounds in a row after which the networks free memory."""
_BUSY_ROUNDS = 5
"""Busy rounds after which memory is moved onto huge pages."""
_SHUTDOWN_STEP_S = 10.0
"""Timeout of each step of the shutdown."""


@asynccontextmanager
async def running(
    state: ServerState,
    supervisor: Supervisor,
    open_models: Callable[[BatchObserver], Serving],
    tls: ServerTls | None,
) -> AsyncIterator[None]:
    """Start the server, and shut it down at the end of the context. Raises and logs any error of the startup."""
    async with AsyncExitStack() as stack:
        stack.enter_context(_reloading(state, supervisor, tls))
        try:
            await _start(state, supervisor, stack, open_models)
        except Exception as error:
            log.error("the server cannot start: %s", str(error) or type(error).__name__)
            raise
        try:
            yield
        except asyncio.CancelledError:
            # By a second Ctrl-C, after which uvicorn asks for nothing any more. Starlette would log a traceback.
            log.warning("the server ends without waiting for its clients")


async def _start(
    state: ServerState, supervisor: Supervisor, stack: AsyncExitStack, open_models: Callable[[BatchObserver], Serving]
) -> None:
    """Start each part and register its shutdown with `stack`, which runs them in reverse even if a later part fails."""

    def at_end(name: str, work: Callable[[], Awaitable[object]], seconds: float = _SHUTDOWN_STEP_S) -> None:
        async def end() -> None:
            await attempt(name, seconds, work())

        stack.push_async_callback(end)

    def grace() -> float:
        return max(0.0, min(state.settings.grace_seconds, state.shutdown_deadline - time.monotonic()))

    stack.callback(state.parser.shutdown, wait=False, cancel_futures=True)
    stack.callback(state.pictures.close)
    at_end("ending background tasks", supervisor.close)
    at_end("ending trackers", state.tracking_workers.close)
    serving = await asyncio.to_thread(open_models, state.metrics)
    close_seconds = state.settings.grace_seconds + 2 * _SHUTDOWN_STEP_S
    at_end("ending networks", lambda: serving.close(grace()), close_seconds)
    await serving.start()
    serving.build_plans()
    stack.callback(setattr, state, "serving", None)
    at_end("closing the journal of events", state.events.close)
    file = await read_camera_file(state)
    if file is not None:
        await state.events.start(file.event_settings)
    at_end("closing the store of streams", state.streams.stop)
    await state.streams.start()
    at_end("ending streams", state.streams.close)
    gc.freeze()  # objects that live as long as the process are skipped by later collections
    state.serving, state.tracking.embedder = serving, serving.embedder
    if (videos := state.videos) is not None:
        at_end("ending video jobs", videos.close)
        videos.start(lambda model, skeleton: _find_for_job(state, model, skeleton), lambda: len(state.streams) > 0)
    if url := state.settings.redis_url.get_secret_value():
        from service.streams.store.redis_groups import RedisGroups  # slow to import

        groups = RedisGroups(url, state.tracking.groups)
        at_end("closing the groups of streams", groups.close)
        exchanging = supervisor.keep("groups of streams", groups.run)
        stack.callback(exchanging.cancel)
    if videos is not None and url:
        from service.offline.jobs.shared_list import SharedJobs  # slow to import

        state.shared_jobs = SharedJobs(url, videos.store.replica)
        at_end("closing the list of video jobs", state.shared_jobs.close)
        sharing = supervisor.keep("list of video jobs", lambda: share_jobs(state))
        stack.callback(sharing.cancel)
    await start_cameras(state, file, supervisor, at_end)
    task = supervisor.keep("housekeeping", lambda: _do_housekeeping(state, serving), longest_delay=_HOUSEKEEPING_S)
    stack.callback(task.cancel)
    stack.enter_context(_draining(state, supervisor))


def _find_for_job(state: ServerState, model: str, skeleton: str) -> tuple[FrameEstimator, Skeleton | None]:
    """Return the model of a video job and the skeleton of its results. Raises JobFailedError."""
    try:
        served = state.find_model(model)
        wanted = state.find_skeleton(served, skeleton)
    except ApiError as error:
        raise JobFailedError(JobProblem(error.kind, error.detail)) from error
    return ServedEstimator(served), wanted


async def _do_housekeeping(state: ServerState, serving: Serving) -> None:
    """Refresh gauges, log how many requests were refused, end expired streams, and manage memory, in rounds.

    Memory is moved onto huge pages in the first round and after some busy rounds. After some idle rounds the networks
    free the memory that they do not need, and every some busy ones that which only a flood has needed.
    """
    answered, refused, idle, busy = 0, state.refused, 0, 0
    gpus = await asyncio.to_thread(Gpus)
    for number in count():
        if gpus:
            state.metrics.gpus.refresh(await asyncio.to_thread(gpus.read))
        _refresh_gauges(state, serving)
        note_cameras(state)
        cameras = 0 if state.cameras is None else state.cameras.refresh()
        if state.refused > refused:
            log.warning("%d requests were refused", state.refused - refused)
            refused = state.refused
        await state.streams.reap()
        state.tracking.groups.reap()
        await state.tracking_workers.revive()
        is_busy = bool(state.requests.held or len(state.streams) or cameras or state.answered != answered)
        idle, busy = 0 if is_busy else idle + 1, busy + is_busy
        answered = state.answered
        if idle == _IDLE_ROUNDS:
            await asyncio.to_thread(serving.release)
            busy = 0
        elif number % _IDLE_ROUNDS == 0 and not idle:
            await asyncio.to_thread(serving.release, unused=True)
        if number == 0 or (is_busy and busy == _BUSY_ROUNDS):
            await asyncio.to_thread(use_huge_pages)
        await asyncio.sleep(_HOUSEKEEPING_S)


def _refresh_gauges(state: ServerState, serving: Serving) -> None:
    state.metrics.refresh(
        ready=not state.unready(),
        depths={batcher.name: batcher.stats.waiting_units for batcher in serving.batchers},
        connections=state.connections.quota.held,
        memory=state.memory.held,
        watchers=len(state.watchers),
    )
    for name, runtime in tuple(serving.runtimes.items()):
        fallback = serving.fell_back(name, state.settings.precision)
        state.metrics.networks.refresh(name, runtime.spec, fallback=fallback)


def _draining(state: ServerState, supervisor: Supervisor) -> AbstractContextManager[None]:
    """At SIGTERM, fail /readyz but keep serving for `drain_seconds`, then pass the signal on to uvicorn.

    Streams are told at once that the server shuts down, and are ended at the end of that time. A second SIGTERM or
    Ctrl-C ends the wait.
    """
    stop = signal.getsignal(signal.SIGTERM)

    async def end(wait: float) -> None:
        notice = supervisor.once("go-away", state.streams.go_away(wait))
        if state.cameras is not None:
            supervisor.once("hand over cameras", state.cameras.hand_over())
        supervisor.once("go-away of watchers", state.watchers.go_away(wait))
        await asyncio.sleep(wait)
        try:
            await state.watchers.close()
            await state.streams.close()
            notice.cancel()
        finally:
            if callable(stop):
                stop(signal.SIGTERM, None)

    def drain() -> None:
        wait = 0.0 if state.draining else state.settings.drain_seconds
        state.draining = True
        state.shutdown_deadline = min(state.shutdown_deadline, time.monotonic() + wait + state.settings.grace_seconds)
        supervisor.once("drain", end(wait))

    return _handling(signal.SIGTERM, drain, stop)


def _reloading(state: ServerState, supervisor: Supervisor, tls: ServerTls | None) -> AbstractContextManager[None]:
    """Reload keys, cameras, sinks and certificate at each SIGHUP, and drop no connection. Afterwards it is ignored."""
    return _handling(signal.SIGHUP, lambda: supervisor.once("reload", _reload(state, tls)), signal.SIG_IGN)


@contextmanager
def _handling(number: signal.Signals, handle: Callable[[], object], after: Any) -> Iterator[None]:
    """Call `handle` on the event loop at each signal, and restore the handler `after` at the end.

    Does nothing in a server inside a test, because only the main thread can handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    signal.signal(number, lambda *_: loop.call_soon_threadsafe(handle))
    try:
        yield
    finally:
        signal.signal(number, after)


async def _reload(state: ServerState, tls: ServerTls | None) -> None:
    """Read keys, cameras, sinks and the certificate again. If a file cannot be used, its old content stays in use."""
    settings = state.settings
    if settings.api_keys_file is not None:
        try:
            keys = await asyncio.to_thread(ApiKeys.read, settings.api_keys, settings.api_keys_file)
            if state.keys.digests and not keys.digests:
                raise ValueError(f"{settings.api_keys_file} has no keys, which would let everybody in")
        except (OSError, ValueError) as error:
            log.error("the API keys stay as they were: %s", error)
        else:
            state.keys = keys
            ended = state.streams.end_unauthorized(keys.admits)
            state.watchers.end_unauthorized(keys.admits)
            log.info("%d API keys are accepted now, %d streams were ended", len(keys.digests), ended)
    await reload_cameras(state)
    if tls is not None:
        try:
            await asyncio.to_thread(tls.reload)
        except CertificateError as error:
            log.error("the certificate stays as it was: %s", error)
        else:
            log.info("new connections get the certificate in %s", settings.tls_certificate)
