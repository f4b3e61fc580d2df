"""A camera: keeps a source open, notices when it stalls or fails, tries again, and can be stopped at any time."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Literal, Self

from engines.poses import Frame
from service.cameras.sources.address import SourceAddress, SourceOptions
from service.cameras.sources.decoding import SourceInfo
from service.cameras.sources.reader_process import (
    ArrivedMessage,
    FrameMessage,
    ReaderProcess,
    SourceEndedError,
    StatusMessage,
)
from service.cameras.sources.spare_readers import StartedReader, start_reader

logger = logging.getLogger(__name__)

Phase = Literal["connecting", "live", "lost", "ended"]

_START_S = 20.0
"""How long a process may take to start before the source is opened, on a machine that is very busy."""
_LONGEST_REASON = 300
"""Characters. A camera may send long words, and every watcher gets them."""
_TAKE_S = 1.0
"""How long a frame that has arrived may take to be converted and sent."""


@dataclass(frozen=True, slots=True)
class CameraTimes:
    """Seconds. connect: a source may take to give its first frame. stall: it may give none after that.

    first_pause, longest_pause: before the next attempt; they double from one to the next, until a source was live for
    `steady` seconds.
    """

    connect: float = 10.0
    stall: float = 5.0
    first_pause: float = 0.5
    longest_pause: float = 30.0
    steady: float = 10.0


@dataclass(frozen=True, slots=True)
class CameraState:
    """What a camera does now. since: on the event loop's clock, seconds. reason: why it was lost.

    retry_in: seconds until the next attempt, if it is lost. info: of the source that was opened last.
    attempts: how often it was opened or tried. decoded, damaged: frames and packets since the camera began; `decoded`
    counts all frames, also those that nobody took.
    """

    phase: Phase = "connecting"
    since: float = 0.0
    reason: str = ""
    retry_in: float = 0.0
    info: SourceInfo | None = None
    attempts: int = 0
    decoded: int = 0
    damaged: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class CameraFrame:
    """number: counted over all frames that were decoded. time: of its arrival, seconds since 1970, never decreasing.

    arrived: the same on the event loop's clock.
    """

    number: int
    pixels: Frame
    time: float
    arrived: float


class CameraError(Exception):
    """The source cannot be read, and trying again would not help. The message is for the user, without secrets."""


class Camera:
    """Yields the newest frame of a source, again and again. An async context manager and iterator, for one consumer.

    Every attempt is a process of its own, which is killed if it does not connect, stalls, or is no longer needed.
    A file that ends or cannot be read ends the camera; every other source is opened again, until the camera is closed.

    options: how the source is opened. times: may be replaced while it runs. fps: at most so many frames a second,
    math.inf for all. changed: called with each new phase. chance: 0..1, so that cameras that were lost together do not
    return at once. start: see `ReaderProcess`.
    """

    def __init__(
        self,
        address: SourceAddress,
        options: SourceOptions | None = None,
        *,
        fps: float = math.inf,
        times: CameraTimes | None = None,
        changed: Callable[[CameraState], None] = lambda _: None,
        chance: Callable[[], float] = random.random,
        start: Callable[[], StartedReader] = start_reader,
    ) -> None:
        self.address = address
        self._options = options or SourceOptions()
        self.state = CameraState()
        self._interval = 1 / fps
        self.times = times or CameraTimes()
        self._changed = changed
        self._chance = chance
        self._start = start
        self._reader: ReaderProcess | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[CameraFrame] | None = None
        self._arrival: asyncio.Future[None] | None = None
        self._due = -math.inf
        self._last_time = -math.inf
        self._earlier = (0, 0)  # decoded and damaged of earlier attempts

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="posewire-camera")
        self._task.add_done_callback(self._task_ended)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def __aiter__(self) -> AsyncIterator[CameraFrame]:
        return self

    async def __anext__(self) -> CameraFrame:
        """Wait for a frame newer than the last one. Raises CameraError, and StopAsyncIteration after the end."""
        while await self.arrival():
            if (frame := await self.take()) is not None:
                return frame
        raise StopAsyncIteration

    async def arrival(self) -> bool:
        """Wait until a frame newer than the last one can be taken. False after the end. Raises CameraError."""
        loop = asyncio.get_running_loop()
        if (pause := self._due - loop.time()) > 0:
            await asyncio.sleep(pause)
        if self._task is None:
            return False
        self._arrival = loop.create_future()
        try:
            if self._reader is not None:
                self._reader.expect_frame()
            await asyncio.wait((self._arrival, self._task), return_when=asyncio.FIRST_COMPLETED)
            if self._arrival.done():
                return True
        finally:
            self._arrival = None
        if not self._task.cancelled() and (error := self._task.exception()) is not None:
            raise error
        return False

    async def take(self) -> CameraFrame | None:
        """Return the newest frame, after `arrival`. None if the source has been lost since then."""
        if self._reader is None:
            return None
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        try:
            self._reader.want_frame()
            async with asyncio.timeout(_TAKE_S):
                frame = await self._waiter
        except (TimeoutError, SourceEndedError):
            return None
        finally:
            self._waiter = None
        # From the time when it was due, so that waiting for frames of another rate does not add up
        self._due = max(self._due + self._interval, loop.time() - self._interval) if self._interval else -math.inf
        return frame

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """Log an error that is not for the user, also if nobody waits for a frame."""
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, CameraError):
            logger.error("the camera %s has failed", self.address.name, exc_info=error)

    async def _run(self) -> None:
        """Open the source again and again."""
        pause = self.times.first_pause
        loop = asyncio.get_running_loop()
        while True:
            self._set("connecting", attempts=self.state.attempts + 1, info=None)
            reason = ""
            try:
                await self._read()
            except SourceEndedError as error:
                reason = self.address.redact(str(error))[:_LONGEST_REASON]  # in this order
            if self.address.kind == "file":
                self._set("ended", reason=reason)
                if reason:
                    raise CameraError(f"{self.address.name}: {reason}")
                return
            if self.state.phase == "live" and loop.time() - self.state.since >= self.times.steady:
                pause = self.times.first_pause
            wait = pause * (0.75 + self._chance() / 4)
            self._set("lost", reason=reason or "the source has ended", retry_in=wait)
            await asyncio.sleep(wait)
            pause = min(2 * pause, self.times.longest_pause)

    async def _read(self) -> None:
        """Read the source once. Returns when it has ended, raises SourceEndedError when it has failed."""
        loop = asyncio.get_running_loop()
        self._earlier = self.state.decoded, self.state.damaged
        async with ReaderProcess(self.address, self._options, self._start) as self._reader:
            if self._arrival is not None:
                self._reader.expect_frame()
            try:
                last: float | None = None  # when the newest frame arrived
                began = loop.time() + _START_S
                while True:
                    limit = began + self.times.connect if last is None else last + self.times.stall
                    try:
                        async with asyncio.timeout_at(limit):
                            message = await self._reader.receive()
                    except TimeoutError:
                        raise SourceEndedError(self._why_silent(last is not None)) from None
                    began = min(began, loop.time())  # its first message says that it has started
                    match message:
                        case None:
                            return
                        case SourceInfo():
                            self.state = replace(self.state, info=message)
                        case StatusMessage(age=age):
                            self._count(message)
                            last = last if age is None else loop.time() - age
                        case ArrivedMessage():
                            if self._arrival is not None and not self._arrival.done():
                                self._arrival.set_result(None)
                        case FrameMessage():
                            last = loop.time() - message.age
                            self._take(message, last)
                    if last is not None and self.state.phase == "connecting":
                        self._set("live")
            finally:
                self._reader = None
                if self._waiter is not None and not self._waiter.done():
                    self._waiter.set_exception(SourceEndedError())

    def _why_silent(self, was_live: bool) -> str:
        if was_live:
            return f"no picture for {self.times.stall:g} s"
        if self.state.info is not None:
            return f"it was opened, but gave no picture within {self.times.connect:g} s"
        return f"it could not be opened within {self.times.connect:g} s"

    def _count(self, status: StatusMessage) -> None:
        decoded, damaged = self._earlier
        new = max(self.state.decoded, decoded + status.decoded)
        self.state = replace(self.state, decoded=new, damaged=damaged + status.damaged)

    def _take(self, message: FrameMessage, arrived: float) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._last_time = max(self._last_time, message.time)
            number = self._earlier[0] + message.number
            # Reports come once a second: without this, the numbers after a loss might begin before the last one
            self.state = replace(self.state, decoded=max(self.state.decoded, number))
            self._waiter.set_result(CameraFrame(number, message.pixels, self._last_time, arrived))

    def _set(self, phase: Phase, *, reason: str = "", retry_in: float = 0.0, **others: object) -> None:
        since = asyncio.get_running_loop().time()
        self.state = replace(self.state, phase=phase, since=since, reason=reason, retry_in=retry_in, **others)  # type: ignore[arg-type]
        self._changed(self.state)
