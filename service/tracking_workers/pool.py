"""The tracking workers of a server: a few processes with many streams each. Processes that end are replaced."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from engines.poses import Detections, Frame, Poses
from engines.skeletons import Skeleton
from service.process.supervisor import Supervisor
from service.tracking_workers.codec import pack
from service.tracking_workers.state import StreamState, TrackingInputs, TrackingOptions
from service.tracking_workers.stream_tracker import TrackingResult, initial_state
from service.tracking_workers.wire import Columns, StartStream, TrackFrame
from service.tracking_workers.worker import ProcessEndedError, TrackingWorker

log = logging.getLogger(__name__)

_TRIES = 2
"""After a frame has ended this many processes, it is given up."""
_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
"""Pause before the next start, doubled with each process in a row that ended before it took requests."""
_FAILURES = 3
"""How many failed starts in a row make the server unready."""


class TrackingWorkers:
    """The worker processes, started when streams need them. Belongs to one event loop.

    processes: the most processes. streams: the most streams in each. frame_bytes: size of the largest frame.
    hang_after: seconds that a process may take for one request. replaced: called for each process that has ended.
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
        self._workers: list[TrackingWorker] = []
        self._streams = 0
        self._starting = asyncio.Lock()
        self._failures = 0  # processes in a row that ended before they took requests
        self._retry_at = -math.inf
        self._closing = Supervisor()

    @property
    def processes(self) -> list[TrackingWorker]:
        """The workers that have been started and have not ended."""
        return list(self._workers)

    @property
    def problem(self) -> str:
        """Why no stream can be tracked, for readiness. Empty if streams can be tracked."""
        if self._failures < _FAILURES or any(worker.started for worker in self._workers):
            return ""
        return f"{self._failures} processes that follow streams have ended at their start"

    @asynccontextmanager
    async def stream(
        self, skeleton: Skeleton, options: TrackingOptions, state: StreamState | None = None
    ) -> AsyncIterator[TrackedStream]:
        """Track one stream for as long as the context lasts. state: to continue from, None for a new stream."""
        stream = TrackedStream(self, skeleton, options, state or initial_state(skeleton, options))
        self._streams += 1
        try:
            yield stream
        finally:
            self._streams -= 1
            stream.end()

    async def acquire_slot(self) -> tuple[TrackingWorker, int]:
        """Take a slot of the worker with the most free slots, which its `release` ends. Raises ProcessEndedError if
        there is no worker.
        """
        async with self._starting:
            for worker in self.processes:
                if not worker.alive:
                    self._lost(worker)
            if len(self._workers) < min(self._most, self._streams):
                await self._start()
        emptiest = max(self._workers, key=lambda worker: len(worker.free), default=None)
        if emptiest is None or not emptiest.free:
            raise ProcessEndedError("there is no process to follow the stream now; the log says why")
        return emptiest, emptiest.free.pop()

    async def revive(self) -> None:
        """Try to start a process if none could be started. An unready server gets no streams that would cause it."""
        async with self._starting:
            if self.problem and not self._workers:
                await self._start()

    async def close(self) -> None:
        workers, self._workers = self._workers, []
        await asyncio.gather(*(worker.close() for worker in workers))
        await self._closing.wait()

    async def _start(self) -> None:
        """Start a process, unless the pause after a failed start is not over."""
        if self._failures and any(worker.started for worker in self._workers):
            self._failures = 0
        if asyncio.get_running_loop().time() < self._retry_at:
            return
        try:
            worker = self._new()
            try:
                await worker.start()
            except BaseException:  # includes a cancellation: the stream's client may have left
                await worker.close()
                raise
        except OSError as error:  # no more processes, descriptors or memory
            self._start_failed(error)
        else:
            self._workers.append(worker)

    def _lost(self, worker: TrackingWorker) -> None:
        """Handle a process that has ended by itself."""
        if worker not in self._workers:
            return
        self._workers.remove(worker)
        self._closing.once("tracker-end", worker.close())
        log.error("a process that follows streams has ended and is replaced")
        if worker.started:
            self._failures = 0
        else:
            self._start_failed(None)
        self._replaced()

    def _start_failed(self, error: OSError | None) -> None:
        """Delay further starts: the first retry is immediate, the next ones wait for longer and longer."""
        pause = min(_PAUSE_S * 2.0 ** min(self._failures - 1, 10), _LONGEST_PAUSE_S) if self._failures else 0.0
        self._failures += 1
        self._retry_at = asyncio.get_running_loop().time() + pause
        why = f"cannot be started: {error}" if error else "has ended at its start"
        log.error("a process that follows streams %s; the next one is started in %.1f s at the earliest", why, pause)


class TrackedStream:
    """One stream in a worker. If its process ends, another one continues from the state of the last frame.

    state: after the last frame, see `codec`. next_id: the first id that has not been assigned.
    """

    def __init__(
        self, workers: TrackingWorkers, skeleton: Skeleton, options: TrackingOptions, state: StreamState
    ) -> None:
        self.state, self.next_id = pack(state), state.tracker.next_id
        self._workers = workers
        self._skeleton = skeleton
        self._options = options
        self._worker: TrackingWorker | None = None
        self._slot = 0  # of the worker
        self._written: Frame | None = None
        self._offset = 0

    async def propose(self, frame: Frame, timestamp: float) -> tuple[Detections, float]:
        """Return the boxes of `StreamTracker.propose`, and the seconds it took. Raises the errors of `update`."""
        return await self._request(frame, timestamp, None)

    async def update(
        self, poses: Poses, frame: Frame, timestamp: float, inputs: TrackingInputs | None = None
    ) -> tuple[TrackingResult, float]:
        """Return the result of `StreamTracker.update`, and the seconds it took.

        Raises TrackingWorkerError and ProcessEndedError.
        """
        columns = poses.keypoints, poses.keypoint_scores, poses.boxes, poses.scores, poses.keypoints_3d
        result: TrackingResult
        result, seconds = await self._request(frame, timestamp, columns, inputs)
        self.state, self.next_id = result.state, result.next_id
        self._written = None  # the next frame may be in the same array
        return result, seconds

    def end(self) -> None:
        if self._worker is not None:
            self._worker.release(self._slot)

    async def _request(
        self, frame: Frame, timestamp: float, poses: Columns | None, inputs: TrackingInputs | None = None
    ) -> tuple[Any, float]:
        """Send a frame to the stream's worker. Returns the value and the seconds of its reply."""
        tries = _TRIES
        while True:
            try:
                worker = await self._started()
                new_frame = self._written is not frame
                if new_frame:
                    self._offset = worker.arena.write(self._slot, frame)
                    self._written = frame
                return await worker.request(
                    TrackFrame(self._slot, self._offset, frame.shape, new_frame, timestamp, poses, inputs)
                )
            except ProcessEndedError as error:
                tries -= error.suspect  # a request that only waited behind another is not the cause
                if not tries:
                    raise

    async def _started(self) -> TrackingWorker:
        """Return the stream's worker, after starting the stream in a new one if its process has ended."""
        if self._worker is None or not self._worker.alive:
            self._worker = None
            worker, slot = await self._workers.acquire_slot()
            try:
                await worker.request(StartStream(slot, self._skeleton, self._options, self.state))
            except BaseException:
                worker.release(slot)
                raise
            self._worker, self._slot, self._written = worker, slot, None
        return self._worker
