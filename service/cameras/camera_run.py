"""One run of a camera: its frames are looked at, its people tracked, and its results given to watchers."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from engines.skeletons import Skeleton
from service.batching import BatchingError, Priority
from service.cameras.camera import Camera, CameraFrame, CameraState
from service.cameras.entry import CameraEntry
from service.cameras.feed import CameraResult, ResultFeed
from service.cameras.saved_session import KEEP_S, SavedSession, store_name
from service.cameras.sources.spare_readers import StartedReader, start_reader
from service.cameras.tally import CameraTally
from service.inference.model_registry import ServedModel
from service.inference.stage import InferenceOptions
from service.media.faces import BLURRED_SCORE, UnseenHeadsError, check_heads
from service.observability.cameras import CameraMetrics
from service.quota import Lease, Quota
from service.streams.clock import FrameClock
from service.streams.flow_control import ConcurrencyLimiter
from service.streams.frame_processor import FrameProcessor
from service.streams.protocol import Hello
from service.streams.store.base import Store, StoreAwayError, StoredState
from service.streams.tracking_parts import TrackingParts
from service.tracking_workers.codec import StateError, is_of, unpack
from service.tracking_workers.pool import TrackingWorkers
from service.tracking_workers.state import StreamState

log = logging.getLogger(__name__)

QUOTA_CLIENT = "cameras"
"""Holds the memory of all cameras, so that together they have the share of one client."""
_FAILURES = 5
"""After so many frames in a row without a result, a camera counts as lost."""
_PAUSES_S = (0.1, 5.0)
"""The first and the longest pause after a frame that failed; doubled with each one in a row."""
_LOOP_S = (1.0, 30.0)
"""A file is begun again this long after its last beginning at the earliest; longer and longer if it is shorter."""


class CannotServeError(Exception):
    """A camera's entry cannot be served here, for example because its model is not. The message is for the user."""


class FindModel(Protocol):
    """Finds what an entry names."""

    def __call__(self, model: str | None, skeleton: str) -> tuple[ServedModel, Skeleton]:
        """Return the model, and the skeleton of results. Raises CannotServeError."""


async def _publish_nothing(_camera: str, _session: str, _result: CameraResult) -> None:
    """For servers without sinks."""


async def _own_all(_camera: str) -> None:
    """For servers that share their cameras with nobody."""


@dataclass(frozen=True, slots=True)
class CameraParts:
    """What the cameras of a server share with its streams.

    tracking: the embedder and the groups, whose owner is the server for its cameras.
    limiter: of a model's frames under way. store: of the states of cameras. memory: for their frames. frame_seconds:
    from a frame's arrival to its deadline. max_people: in one frame, at most. checkpoint_seconds: how old a state in
    the store may be. hosts: the setting `camera_hosts`. publish: awaited with each result that has events, before the
    state that follows it is stored. confirm: awaited with each result before anybody is told of it. Does not return if
    another replica has the camera. start: the process that reads a source.
    """

    find: FindModel
    workers: TrackingWorkers
    tracking: TrackingParts
    limiter: Callable[[str], ConcurrencyLimiter]
    store: Store
    memory: Quota
    metrics: CameraMetrics
    frame_seconds: float
    max_people: int
    checkpoint_seconds: float
    hosts: tuple[str, ...]
    publish: Callable[[str, str, CameraResult], Awaitable[None]] = _publish_nothing
    confirm: Callable[[str], Awaitable[None]] = _own_all
    start: Callable[[], StartedReader] = start_reader


@dataclass(eq=False)
class _Session:
    """What a run continues or begins. generation: see `StoredState`. stream: the tracker's state, None for a new one.

    gap: seconds since the frame of `stream`.
    """

    saved: SavedSession
    generation: int
    stream: StreamState | None = None
    gap: float = 0.0


@dataclass(eq=False)
class CameraRun:
    """Runs a camera. `run` may be called again when it has ended, also with another entry.

    from_file: the operator has named it, not the API, so its own host is allowed whatever `hosts` says. feed: gets the
    results. told: called with `live`, or with `lost` and the reason. number: of the next result, over all sessions.
    camera: what its source does. people: in the newest result. session: whose identities they are, empty before the
    first.
    """

    name: str
    entry: CameraEntry
    parts: CameraParts
    feed: ResultFeed
    told: Callable[[Literal["live", "lost"], str], None]
    from_file: bool = True
    tally: CameraTally = field(default_factory=CameraTally)
    number: int = 0
    people: int = 0
    session: str = ""
    camera: CameraState = field(default_factory=CameraState)
    _source: Camera | None = None
    _counted: tuple[int, int] = (0, 0)

    async def run(self) -> None:
        """Run until the source, a file, has ended. Raises CannotServeError, and CameraError if it cannot be read."""
        parts, hello = self.parts, self.entry.hello()
        served, skeleton = parts.find(self.entry.model, self.entry.skeleton)
        try:
            hello.rules.check_skeleton(served.skeleton)
            if self.entry.blur:
                check_heads(served.skeleton)
        except (ValueError, UnseenHeadsError) as error:
            raise CannotServeError(str(error)) from error
        most, least = min(hello.max_people or parts.max_people, parts.max_people), hello.min_score
        if self.entry.blur:  # also the faces of people who are not reported
            most, least = parts.max_people, min(least, BLURRED_SCORE)
        options = InferenceOptions(
            client=f"camera:{self.name}", priority=Priority.LIVE, max_people=most, min_score=least
        )
        session = await self._begin(served, hello)
        self.session = session.saved.id
        with parts.memory.take(QUOTA_CLIENT, 0) as memory:
            async with parts.tracking.processor(
                parts.workers, QUOTA_CLIENT, served, hello, options, skeleton, session.stream
            ) as processor:
                frames = _Frames(self, session, processor, parts.limiter(served.model.name), options.client, memory)
                try:
                    await self._read(frames)
                finally:
                    frames.keep(last=True)

    def count(self) -> None:
        """Bring the tally up to date with the source."""
        if self._source is not None:
            self.camera, (decoded, damaged) = self._source.state, self._counted
            self._counted = self.camera.decoded, self.camera.damaged
            self.tally.decoded += self.camera.decoded - decoded
            self.tally.damaged += self.camera.damaged - damaged

    async def _begin(self, served: ServedModel, hello: Hello) -> _Session:
        """Continue the stored session, or begin a new one."""
        fits = self.entry.fingerprint(served.model.name)
        stored, generation = None, 1
        try:
            stored = await self.parts.store.claim(store_name(self.name), KEEP_S)
            if stored is not None:
                generation, self.number = stored.generation, max(self.number, stored.sequence)
                saved = SavedSession.unpack(stored.data)
                stream = unpack(saved.stream)
                if saved.fits == fits and is_of(stream, served.skeleton) and stream.fits(hello.tracking):
                    return _Session(saved, generation, stream, stored.age)
        except (StateError, StoreAwayError) as error:
            log.error("the camera %s begins with new identities: %s", self.name, error)
        return _Session(SavedSession.new(fits), generation)

    async def _read(self, frames: _Frames) -> None:
        """Look at the source; again and again, if it is a file that is to be looped."""
        loop, pause = asyncio.get_running_loop(), _LOOP_S[0]
        while True:
            began = loop.time()
            async with self._open() as camera:
                self._source, self._counted = camera, (0, 0)
                try:
                    await frames.follow(camera)
                finally:
                    self.count()
                    self._source = None
            if not self.entry.loop:
                return
            if (early := began + pause - loop.time()) > 0:
                await asyncio.sleep(early)
                pause = min(2 * pause, _LOOP_S[1])

    def _open(self) -> Camera:
        options = self.entry.source_options(self.parts.hosts, own_host=self.from_file)
        return Camera(
            self.entry.address, options, fps=self.entry.most_fps, changed=self._changed, start=self.parts.start
        )

    def _changed(self, state: CameraState) -> None:
        if state.phase == "lost":
            self.tally.lost += self.camera.phase == "live"
            self.told("lost", state.reason)
        elif state.phase == "live":
            self.told("live", "")
        self.camera = state


class _Frames:
    """The frames of a run: each is looked at, tracked, told and counted. client: of the limiter. memory: for frames."""

    def __init__(
        self,
        run: CameraRun,
        session: _Session,
        processor: FrameProcessor,
        limiter: ConcurrencyLimiter,
        client: str,
        memory: Lease,
    ) -> None:
        self._run = run
        self._parts = run.parts
        self._session = session
        self._processor = processor
        self._limiter = limiter
        self._client = client
        self._memory = memory
        last = math.nan if session.stream is None else session.stream.tracker.timestamp
        now = time.time() if session.stream is None else last + session.gap
        # Clocks of servers differ, and may be set: the time of a session goes on from its last frame
        self._epoch = now - asyncio.get_running_loop().time()
        self._clock = FrameClock(last)
        self._kept = self._told = processor.state, processor.next_id
        self._kept_at = self._arrived = asyncio.get_running_loop().time()
        self._has_told = False
        self._failures = 0
        self._last = 0

    async def follow(self, camera: Camera) -> None:
        """Look at the newest frame whenever there is a slot, until the source ends. Raises CameraError."""
        self._last = 0  # each source counts its own frames
        while await camera.arrival():
            result: CameraResult | Exception
            async with self._limiter.slot(self._client) as slot:
                if (frame := await camera.take()) is None:
                    continue
                result = await self._look_at(frame)
                if isinstance(result, CameraResult):
                    slot.worked = result.processed.worked
            self._run.count()
            if isinstance(result, CameraResult):
                await self._tell(result)
            else:
                await self._fail(result)

    def keep(self, *, last: bool = False) -> None:
        """Store the state after the last frame whose events have been published, if there is a new one.

        last: also if it was stored before, as the store may have lost it meanwhile.
        """
        run, now = self._run, asyncio.get_running_loop().time()
        if self._told[0] is self._kept[0] and not (last and self._has_told):
            return
        self._kept, self._kept_at = self._told, now
        data = replace(self._session.saved, stream=self._kept[0]).pack()
        state = StoredState(self._session.generation, run.number, data, max(0.0, now - self._arrived))
        self._parts.store.keep(store_name(run.name), state, KEEP_S)

    async def _look_at(self, frame: CameraFrame) -> CameraResult | Exception:
        """Return the result of a frame, or why there is none: the next one may have one."""
        run, loop = self._run, asyncio.get_running_loop()
        try:
            # For this frame and the one of the newest result, which watchers may want to see
            self._memory.grow(2 * frame.pixels.nbytes - self._memory.amount)
            taken = self._clock.convert(None, frame.arrived + self._epoch)
            deadline = frame.arrived + self._parts.frame_seconds
            processed = await self._processor.process_frame(frame.pixels, taken, deadline)
        except Exception as error:  # noqa: BLE001 - told by `_fail`
            return error
        number, run.number = run.number, run.number + 1
        dropped, self._last = frame.number - self._last - 1, frame.number
        self._arrived = frame.arrived
        return CameraResult(number, frame.pixels, processed, taken, loop.time() - frame.arrived, dropped)

    async def _tell(self, result: CameraResult) -> None:
        """Give a result to watchers, publish its events, and store the state after it from time to time."""
        run = self._run
        await self._parts.confirm(run.name)
        if self._failures:
            log.info("the frames of the camera %s have results again", run.name)
            self._failures = 0
            run.told("live", "")
        run.people = len(result.processed.poses)
        run.tally.done += 1
        run.tally.ages += result.age
        self._parts.metrics.result(run.name, result.age)
        run.feed.put(result)
        if result.processed.events:
            await self._parts.publish(run.name, self._session.saved.id, result)
        self._told, self._has_told = (self._processor.state, self._processor.next_id), True
        # Ids and events are never given twice, so they are stored at once
        is_due = asyncio.get_running_loop().time() - self._kept_at >= self._parts.checkpoint_seconds
        if is_due or result.processed.events or self._told[1] != self._kept[1]:
            self.keep()

    async def _fail(self, error: Exception) -> None:
        """Count a frame without a result, and wait for a moment."""
        run = self._run
        self._failures += 1
        run.tally.failed += 1
        known = isinstance(error, BatchingError)
        if self._failures == 1:
            log.warning("a frame of the camera %s failed: %s", run.name, error, exc_info=None if known else error)
        if self._failures >= _FAILURES:
            reason = str(error) if known else "the server fails on them; its log says why"
            run.told("lost", f"its frames get no results: {reason}")
        first, longest = _PAUSES_S
        await asyncio.sleep(min(first * 2.0 ** min(self._failures - 1, 10), longest))
