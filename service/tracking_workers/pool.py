"""Who follows which stream: a few processes, each with many streams, replaced when they end."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from engines.poses import Floats, Frame, Poses
from engines.skeletons import Skeleton
from service.process.supervisor import Supervisor
from service.streams.codec import pack
from service.streams.protocol import Hello
from service.streams.state import Memory
from service.tracking_workers.stream_tracker import Followed, beginning
from service.tracking_workers.wire import Begin, End, Expect, Follow, Request
from service.tracking_workers.worker import ProcessEndedError, TrackingWorker

log = logging.getLogger(__name__)

_TRIES = 2
"""A frame that has ended so many processes is not tried again."""
_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
"""Before the next process is started where one has ended before it took a request."""
_TELLING = 3
"""So many of these in a row say that no stream can be followed here."""


class TrackingWorkers:
    """The processes, started as streams need them. It belongs to one event loop.

    processes: at most. streams: at most, in each. frame_bytes: of the largest frame. hang_after: seconds.
    replaced: called for each that has ended.
    """

    def __init__(
        self,
        processes: int,
        *,
        streams: int,
        frame_bytes: int,
        hang_after: float,
        replaced: Callable[[], None] = lambda: None,
    ) -> None:
        self._most = processes
        self._replaced = replaced
        self._new: Callable[[], TrackingWorker] = lambda: TrackingWorker(streams, frame_bytes, hang_after, self._lost)
        self._processes: list[TrackingWorker] = []
        self._streams = 0
        self._starting = asyncio.Lock()
        self._failures = 0  # processes in a row that ended before they took a request
        self._again_at = -math.inf
        self._closing = Supervisor()

    @property
    def processes(self) -> list[TrackingWorker]:
        """Those that have been started and have not ended."""
        return list(self._processes)

    @property
    def problem(self) -> str:
        """Why no stream can be followed, for readiness; empty where all is well."""
        if self._failures < _TELLING or any(process.started for process in self._processes):
            return ""
        return f"{self._failures} processes that follow streams have ended at their start"

    @asynccontextmanager
    async def stream(
        self, skeleton: Skeleton, hello: Hello, memory: Memory | None = None
    ) -> AsyncIterator[TrackedStream]:
        """Follow one stream for as long as the context lasts. memory: to go on from, None for a new stream."""
        stream = TrackedStream(self, skeleton, hello, memory or beginning(skeleton, hello))
        self._streams += 1
        try:
            yield stream
        finally:
            self._streams -= 1
            stream.leave()

    async def place(self) -> StreamPlacement:
        """A free slot of the process that has the most of them. Raises ProcessEndedError where there is none."""
        async with self._starting:
            for process in self.processes:
                if not process.alive:
                    self._lost(process)
            if len(self._processes) < min(self._most, self._streams):
                await self._start()
        roomiest = max(self._processes, key=lambda process: len(process.free), default=None)
        if roomiest is None or not roomiest.free:
            raise ProcessEndedError("there is no process to follow the stream now; the log says why")
        return StreamPlacement(roomiest, roomiest.free.pop())

    async def revive(self) -> None:
        """Try again to start a process where none could be: without, no stream would come that asks for one."""
        async with self._starting:
            if self.problem and not self._processes:
                await self._start()

    async def close(self) -> None:
        """End all processes."""
        processes, self._processes = self._processes, []
        await asyncio.gather(*(process.close() for process in processes))
        await self._closing.wait()

    async def _start(self) -> None:
        """Start a process, unless the last one failed to start just now."""
        if self._failures and any(process.started for process in self._processes):
            self._failures = 0
        if asyncio.get_running_loop().time() < self._again_at:
            return
        try:
            process = self._new()
            try:
                await process.start()
            except BaseException:  # the stream that needs it may have been left meanwhile
                await process.close()
                raise
        except OSError as error:  # no more processes, descriptors or memory
            self._failed(error)
        else:
            self._processes.append(process)

    def _lost(self, process: TrackingWorker) -> None:
        """A process has ended, which nobody has told it to."""
        if process not in self._processes:
            return
        self._processes.remove(process)
        self._closing.once("tracker-end", process.close())
        log.error("a process that follows streams has ended and is replaced")
        if process.started:
            self._failures = 0
        else:
            self._failed(None)
        self._replaced()

    def _failed(self, error: OSError | None) -> None:
        """A process did not start: the next one may at once, but those after it not before ever longer pauses."""
        pause = min(_PAUSE_S * 2.0 ** min(self._failures - 1, 10), _LONGEST_PAUSE_S) if self._failures else 0.0
        self._failures += 1
        self._again_at = asyncio.get_running_loop().time() + pause
        why = f"cannot be started: {error}" if error else "has ended at its start"
        log.error("a process that follows streams %s; the next one is started in %.1f s at the earliest", why, pause)


@dataclass(frozen=True, slots=True)
class StreamPlacement:
    """A slot of a process, which is one stream's until it is left."""

    process: TrackingWorker
    slot: int

    def leave(self) -> None:
        """Let another stream have the slot."""
        if self.process.alive:
            self.process.tell(End(self.slot))
            self.process.arena.clear(self.slot)
            self.process.free.append(self.slot)


class TrackedStream:
    """One stream, followed by one process, or by another from the last frame's state should that one end.

    state: as of the last frame, see `codec`. next_id: the first id that nobody has had.
    """

    def __init__(self, following: TrackingWorkers, skeleton: Skeleton, hello: Hello, memory: Memory) -> None:
        self.state, self.next_id = pack(memory), memory.tracker.next_id
        self._following = following
        self._skeleton = skeleton
        self._hello = hello
        self._place: StreamPlacement | None = None
        self._written: Frame | None = None
        self._offset = 0

    async def expected(self, frame: Frame, taken: float) -> tuple[Floats, float]:
        """See `StreamTracker.expected`; and the seconds it took. Raises as `follow` does."""
        boxes, seconds = await self._ask(frame, lambda slot, offset, _: Expect(slot, offset, frame.shape, taken))
        return boxes, seconds

    async def follow(self, poses: Poses, frame: Frame, taken: float) -> tuple[Followed, float]:
        """See `StreamTracker.follow`; and the seconds it took. Raises TrackingWorkerError or ProcessEndedError."""
        columns = poses.keypoints, poses.keypoint_scores, poses.boxes, poses.scores, poses.keypoints_3d
        followed: Followed
        followed, seconds = await self._ask(
            frame, lambda slot, offset, fresh: Follow(slot, offset, frame.shape, fresh, taken, *columns)
        )
        self.state, self.next_id = followed.state, followed.next_id
        self._written = None  # the next frame may be an array at the same place
        return followed, seconds

    def leave(self) -> None:
        """Follow it no more."""
        if self._place is not None:
            self._place.leave()

    async def _ask(self, frame: Frame, request: Callable[[int, int, bool], Request]) -> tuple[Any, float]:
        tries = _TRIES
        while True:
            try:
                place = await self._settled()
                fresh = self._written is not frame
                if fresh:
                    self._offset = place.process.arena.write(place.slot, frame)
                    self._written = frame
                return await place.process.ask(request(place.slot, self._offset, fresh))
            except ProcessEndedError as error:
                tries -= error.suspect  # a frame that only waited is not to blame
                if not tries:
                    raise

    async def _settled(self) -> StreamPlacement:
        """The place where this stream is followed, a new one if that is gone."""
        if self._place is None or not self._place.process.alive:
            self._place = None
            place = await self._following.place()
            try:
                await place.process.ask(Begin(place.slot, self._skeleton.name, self._hello, self.state))
            except BaseException:
                place.leave()
                raise
            self._place, self._written = place, None
        return self._place
