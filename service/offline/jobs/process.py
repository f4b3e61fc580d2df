"""The process of a video job as the server sees it: starts it, runs the networks for it, and ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.poses import Detections, Frame, Poses
from service.batching import ClosedError, Priority
from service.inference.stage import InferenceOptions
from service.offline.jobs.job import JobProblem
from service.offline.jobs.messages import ChildTask, MessageError, receive_message, send
from service.offline.resumable_tracking import FrameEstimator
from service.offline.video_records import JournaledFrame, pack
from service.process.memory import memory_limit
from service.tracking_workers.arena import Arena

log = logging.getLogger(__name__)

_SILENT_S = 600.0
"""A process that sends nothing for this long, and waits for nothing, hangs."""
_END_S = 10.0
_LEAST_MEMORY = 768 << 20
_MOST_IN_FLIGHT = 64
"""Frames that a process may have the networks look at. It asks for at most 16."""
_REST, _LONGEST_REST_S = 3.0, 2.0
"""How long the networks rest after a frame while there are streams, as a multiple of the time that it took."""
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE})
_ENVIRONMENT = {"MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1"}


class JobFailedError(Exception):
    """The job cannot be done. problem: why."""

    def __init__(self, problem: JobProblem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class InterruptedJobError(Exception):
    """The server shuts down. The job can continue from its journal."""


@dataclass(slots=True)
class Progress:
    """How far a job is. frames: of the video, as far as its header tells."""

    done: int = 0
    frames: int | None = None


class VideoProcess:
    """Works on one video. client: of the job, for fairness. gives_way: whether others need the networks soon."""

    def __init__(self, task: ChildTask, estimator: FrameEstimator, client: str, gives_way: Callable[[], bool]) -> None:
        self.progress = Progress()
        self._task = task
        self._estimator = estimator
        self._client = client
        self._process: Process | None = None
        self._arena = Arena(3 * task.pixels)
        self._gives_way = gives_way
        self._alone = asyncio.Lock()
        self._looking: set[asyncio.Task[None]] = set()
        self._error: Exception | None = None

    async def run(self) -> str:
        """Do the job, and return what is damaged in the video, or "". When cancelled, it kills the process.

        Raises JobFailedError and InterruptedJobError.
        """
        try:
            reader, writer = await self._start()
            try:
                send(writer, self._task.packed())
                return await self._serve(reader, writer)
            finally:
                writer.close()
        except OSError as error:
            log.error("a video job has no process: %s", error)
            raise JobFailedError(JobProblem("internal", "no process could be started for this video")) from error
        finally:
            for task in self._looking:
                task.cancel()
            await self._end()
            self._arena.close()

    async def _start(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                fds = theirs.fileno(), self._arena.fd
                memory = max(_LEAST_MEMORY, memory_limit() // 2)
                arguments = map(str, (*fds, 3 * self._task.pixels, memory, os.getpid()))
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "service.offline.jobs.child", *arguments),
                    stdin=DEVNULL,
                    stdout=DEVNULL,
                    stderr=DEVNULL,  # FFmpeg writes a line for each error
                    pass_fds=fds,
                    # Without settings, because these may hold keys and passwords.
                    env={k: v for k, v in os.environ.items() if not k.startswith("POSEWIRE_")} | _ENVIRONMENT,
                )
            return await asyncio.open_unix_connection(sock=ours)
        except BaseException:
            ours.close()
            raise

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        while True:
            try:
                async with asyncio.timeout(_SILENT_S):
                    message = await receive_message(reader)
            except TimeoutError:
                if self._looking:
                    continue  # it waits for the networks
                raise JobFailedError(JobProblem("not-a-video", "decoding gave no frame for ten minutes")) from None
            except (asyncio.IncompleteReadError, ConnectionError):
                raise await self._reason() from None
            except MessageError as error:
                raise _defect(f"sent {error}") from error
            try:
                match message["type"]:
                    case "frame":
                        self._look(message, writer)
                    case "video":
                        self.progress.frames = None if message["frames"] is None else int(message["frames"])
                    case "done":
                        self.progress.done = int(message["frames"])
                    case "end":
                        return str(message["problem"])
                    case "failed" if message["kind"] != "internal":
                        raise JobFailedError(JobProblem(str(message["kind"]), str(message["detail"])))
                    case _:
                        raise _defect(str(message.get("detail", message)))
            except (KeyError, TypeError, ValueError) as error:
                raise _defect(f"sent {error!r}") from error

    def _look(self, message: Mapping[str, Any], writer: asyncio.StreamWriter) -> None:
        if len(self._looking) >= _MOST_IN_FLIGHT:
            raise ValueError(f"{len(self._looking)} frames at once")
        slot, offset, rows, columns = (int(message[name]) for name in ("slot", "offset", "rows", "columns"))
        if min(slot, offset) < 0 or min(rows, columns) < 1 or rows * columns > self._task.pixels:
            raise ValueError(f"a frame of {columns} x {rows} pixels at {offset}")
        if offset > 2 * _MOST_IN_FLIGHT * 3 * self._task.pixels:
            raise ValueError(f"a frame at {offset}")
        frame = self._arena.read(offset, (rows, columns, 3))
        options = InferenceOptions(
            client=self._client,
            priority=Priority.BULK,
            max_people=int(message["max_people"]),
            min_score=float(message["min_score"]),
            admitted=True,
        )
        task = asyncio.create_task(self._estimate(slot, frame, options, _people(message["people"]), writer))
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def _estimate(
        self,
        slot: int,
        frame: Frame,
        options: InferenceOptions,
        people: Detections | None,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Let the networks look at a frame. An error ends the job."""
        try:
            poses = await self._in_turn(lambda: self._estimator.estimate(frame, options, people))
            send(writer, slot.to_bytes(4, "little"))
            send(writer, pack(JournaledFrame(0, people is None, poses)))
        except Exception as error:  # noqa: BLE001 - it is raised where the process's end is noticed
            self._error = self._error or error
            self._kill()

    async def _in_turn(self, estimate: Callable[[], Awaitable[Poses]]) -> Poses:
        """Estimate a frame. While there are streams, one frame runs at a time, and the networks rest after it.

        The lowest priority does not help a live frame that arrives just when a batch of a job has begun: it waits for
        the end of the batch. So batches of jobs are to be short and rare then.
        """
        if not self._gives_way():
            return await estimate()
        async with self._alone:
            loop = asyncio.get_running_loop()
            started = loop.time()
            poses = await estimate()
            await asyncio.sleep(min(_LONGEST_REST_S, _REST * (loop.time() - started)))
            return poses

    async def _reason(self) -> Exception:
        """Why the process has ended without saying so."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await self._process.wait() if self._process is not None else None
        await self._end()
        if isinstance(self._error, ClosedError):
            return InterruptedJobError()
        if self._error is not None:
            log.error("a video job's frame could not be estimated", exc_info=self._error)
            return JobFailedError(JobProblem("internal", "the networks failed on a frame; the server's log says why"))
        number = -(self._process.returncode or 0) if self._process is not None else 0
        if number == signal.SIGXCPU:
            return JobFailedError(
                JobProblem("not-a-video", "decoding a frame takes more than a minute of processor time")
            )
        if number in _CRASHES:
            return JobFailedError(JobProblem("not-a-video", "the decoder crashed on this video; export it again"))
        if number == signal.SIGKILL:
            text = "the process that worked on this video was killed; the machine may have had no memory left"
            return JobFailedError(JobProblem("too-large", text))
        return _defect(f"ended with {-number}")

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)  # see TrackingWorker.kill

    async def _end(self) -> None:
        """Kill the process if it has not ended, and wait for its end."""
        self._kill()
        if self._process is not None:
            await self._process.wait()


def _people(boxes: object) -> Detections | None:
    """The boxes of the people that a process has sent. Raises ValueError and TypeError for anything else."""
    if boxes is None:
        return None
    if not isinstance(boxes, list):
        raise TypeError("boxes")
    corners, scores = (np.frombuffer(column, "<f4") for column in boxes)
    people = Detections(_finite(corners).reshape(-1, 4), _finite(scores))
    if len(people.boxes) != len(people.scores):
        raise ValueError("boxes without scores")
    return people


def _finite(values: NDArray[np.float32]) -> NDArray[np.float32]:
    if not (np.abs(values) < 1e6).all():
        raise ValueError("boxes far outside")
    return values.astype(np.float32)


def _defect(what: str) -> JobFailedError:
    log.error("the process of a video job has failed: %s", what)
    return JobFailedError(JobProblem("internal", "the server failed on this video; its log says why"))
