"""The video jobs of a server: one after the other, beside its other work, and after a restart from where they were.

The worker process that holds the lock of the data folder runs the jobs; every one answers for all of them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from engines.locks import lock
from engines.skeletons import Skeleton
from service.offline.jobs.job import DRAWN, POSES, SOURCE, DiskFullError, JobLimits, JobProblem, VideoJob
from service.offline.jobs.messages import ChildTask
from service.offline.jobs.process import InterruptedJobError, JobFailedError, VideoProcess
from service.offline.jobs.store import JobStore, size_of
from service.offline.resumable_tracking import FrameEstimator, VideoOptions
from service.offline.video_task import VideoTask
from service.process.supervisor import Supervisor
from service.quota import QuotaExceededError

log = logging.getLogger(__name__)

T = TypeVar("T")

_ROUND_S = 1.0
"""Time between two looks at the store: for deleted jobs, new ones of other processes, and old ones."""
_FRESH_S = 0.2
"""Age up to which a row is shown again."""
_FPS_S = 5.0
"""Time over which frames per second are measured."""
_PIXEL_BYTES = 64 << 20

Find = Callable[[str, str], tuple[FrameEstimator, Skeleton | None]]


class VideoJobs:
    """Owns the jobs in a folder. Belongs to one event loop. store: see `call`.

    seconds, pixels: limits of a video, see `ChildTask`. Raises as JobStore.
    """

    def __init__(
        self,
        folder: Path,
        limits: JobLimits,
        *,
        seconds: float,
        pixels: int,
        supervisor: Supervisor,
        counted: Callable[[Mapping[str, int], int], None] = lambda *_: None,
    ) -> None:
        """counted: called with the number of jobs by state, and their bytes, in the process that runs the jobs."""
        self.store = JobStore(folder, limits)
        self._lock_path = folder / "videos.lock"
        self._seconds = seconds
        self._pixels = pixels
        self._supervisor = supervisor
        self._counted = counted
        # SQLite may wait for the disk. One thread, because its statements are ordered by a lock anyway.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="posewire-jobs")
        self._wake = asyncio.Event()
        self._recent: dict[str, tuple[float, asyncio.Future[VideoJob | None]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._gives_way: Callable[[], bool] = lambda: False

    async def call(self, method: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Call a method of the store on its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: method(*arguments, **named))

    async def get(self, job: str) -> VideoJob | None:
        """As `JobStore.get`, but shared by all who ask within a moment: many may watch a job."""
        now = time.monotonic()
        asked, found = self._recent.get(job, (-_FRESH_S, None))
        if found is None or now - asked > _FRESH_S:
            self._recent = {name: entry for name, entry in self._recent.items() if now - entry[0] <= _FRESH_S}
            found = asyncio.ensure_future(self.call(self.store.get, job))
            self._recent[job] = now, found
        return await asyncio.shield(found)

    async def delete(self, job: str) -> None:
        """As `JobStore.delete`."""
        await self.call(self.store.delete, job)
        self._recent.pop(job, None)
        self.wake()

    def start(self, find: Find, gives_way: Callable[[], bool]) -> None:
        """Begin to run jobs. find: returns the model of a name, and the skeleton of a name for its results, None for
        its own; or raises JobFailedError. gives_way: see `VideoProcess`.
        """
        self._gives_way = gives_way
        self._task = self._supervisor.keep("video jobs", lambda: self._run(find))

    async def close(self) -> None:
        """Stop. A job that is running continues at the next start from its journal."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        await self.call(self.store.close)
        self._thread.shutdown(wait=False)

    def wake(self) -> None:
        """Look for new and deleted jobs at once."""
        self._wake.set()

    async def _run(self, find: Find) -> None:
        """Run jobs for as long as this process is the one that does."""
        handle = await self._locked()
        try:
            await self.call(self.store.recover)
            while True:
                await self._count()
                job = await self.call(self.store.claim)
                if job is None:
                    await self._pause()
                else:
                    await self._run_one(job, find)
        finally:
            os.close(handle)

    async def _locked(self) -> int:
        while True:
            try:
                return await asyncio.to_thread(lock, self._lock_path)
            except BlockingIOError:
                await asyncio.sleep(_ROUND_S)

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_ROUND_S):
                await self._wake.wait()
        self._wake.clear()

    async def _count(self, running: str = "") -> None:
        await self.call(self.store.sweep, running)
        self._counted(*await self.call(self.store.totals))

    async def _run_one(self, job: VideoJob, find: Find) -> None:
        log.info("video job %s begins", job.id)
        try:
            estimator, skeleton = find(job.model, job.skeleton)
            process = VideoProcess(self._task_of(job, estimator, skeleton), estimator, job.client, self._gives_way)
            damage = await self._watched(job, process)
        except JobFailedError as error:
            await self.call(self.store.end, job.id, "failed", error.problem)
            log.info("video job %s has failed: %s", job.id, error)
        except DiskFullError as error:
            await self.call(self.store.end, job.id, "failed", JobProblem("disk-full", str(error)))
        except (InterruptedJobError, asyncio.CancelledError) as error:
            await asyncio.shield(self.call(self.store.release, job.id))
            if isinstance(error, asyncio.CancelledError):
                raise
            await asyncio.sleep(_ROUND_S)  # until the shutdown cancels this task
        except _DeletedJobError:
            log.info("video job %s was deleted", job.id)
        else:
            await self.call(self.store.end, job.id, "done", JobProblem("not-a-video", damage) if damage else None)
            log.info("video job %s is done", job.id)

    def _task_of(self, job: VideoJob, estimator: FrameEstimator, skeleton: Skeleton | None) -> ChildTask:
        folder = self.store.folder(job.id)
        video = VideoTask(
            folder / f"{SOURCE}{job.suffix}",
            folder / DRAWN,
            folder / POSES,
            VideoOptions(job.min_score, job.max_people),
            name=job.name,
            skeleton=skeleton,
            pixel_bytes=_PIXEL_BYTES,
        )
        return ChildTask(video, estimator.model, estimator.skeleton, estimator.detects, self._seconds, self._pixels)

    async def _watched(self, job: VideoJob, process: VideoProcess) -> str:
        """Run a job's process. Writes its progress, and ends it if the job is deleted or takes too much of the disk."""
        working = asyncio.create_task(process.run())
        pace = _Pace()
        try:
            while not working.done():
                waking = asyncio.create_task(self._wake.wait())
                await asyncio.wait((working, waking), timeout=_ROUND_S, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
                self._wake.clear()
                progress = process.progress
                columns = {"frames_done": progress.done, "frames_total": progress.frames, "fps": pace.of(progress.done)}
                if not await self.call(self.store.change, job.id, "running", **columns):
                    raise _DeletedJobError
                try:
                    await self.call(lambda: self.store.grow(job.id, size_of(self.store.folder(job.id))))
                except QuotaExceededError as error:
                    raise JobFailedError(
                        JobProblem("too-large", f"there is no room for its results: {error}")
                    ) from error
                await self._count(job.id)
            return await working
        finally:
            working.cancel()
            await asyncio.wait((working,))


class _DeletedJobError(Exception):
    """The job that is running was deleted."""


class _Pace:
    """Measures frames per second."""

    def __init__(self) -> None:
        self._seen = [(time.monotonic(), 0)]

    def of(self, done: int) -> float | None:
        now = time.monotonic()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] > _FPS_S:
            self._seen.pop(0)
        then, before = self._seen[0]
        return (done - before) / (now - then) if done > before and now > then else None
