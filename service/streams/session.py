"""One stream: frames come in, the newest is looked at, its result goes out, for as long as both sides will."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from service.batching import ClosedError, DeadlineExceededError, OverloadedError
from service.formats.people import people_list
from service.media.image_files import ImageError
from service.quota import Lease, QuotaExceededError
from service.streams.clock import FrameClock
from service.streams.closing import CloseCode, StreamError
from service.streams.concurrency import ConcurrencyLimiter
from service.streams.frame_processor import FrameProcessor, ProcessedFrame
from service.streams.mailbox import Mailbox, QueuedFrame
from service.streams.protocol import Encoding, Hello, embed, encode, read_acknowledgement, read_frame
from service.streams.window import Window
from service.tracking.zones import ZoneEvent

log = logging.getLogger(__name__)

_PATIENCE = 5
"""Frames in a row that may go wrong."""
_RENEWAL_S = 1.0
"""How old a token may be before a result brings a new one; they are dated to the second, and signing takes time."""
_STALE_S = 1.0
"""A frame that waited longer than this for an acknowledgement is no longer worth a look."""

Problem = Mapping[str, Any]


class Channel(Protocol):
    """A connection that carries messages."""

    async def receive(self) -> str | bytes:
        """The next message. Raises ConnectionError once the client has left."""

    async def send(self, message: str | bytes) -> None:
        """Send a message; returns when there is room for another. Raises ConnectionError once the client has left."""


class SessionObserver:
    """What a session tells of itself; does nothing."""

    def received(self, replaced: int) -> None:
        """A frame came, and took the place of so many that waited."""

    def result(self, age: float, seconds: Mapping[str, float], people: int) -> None:
        """A frame got its result. age: seconds since it came. seconds: where the time went, by part."""

    def failed(self) -> None:
        """A frame got an error."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What holds for every stream of a server, in seconds.

    frame: the deadline of a frame, from its arrival. idle: how long a client may send nothing, or read nothing.
    """

    frame: float
    idle: float


class Session:
    """The life of one connection after its hello.

    token: makes the resume token for a sequence number and the first id that nobody has had. describe: what is told of
    a frame's error; None for a defect of the server's. clock: seconds, monotonic. sequence: of results in this session,
    over all its connections. last: when the session's last frame was taken, NaN for a new one. gap: seconds since then.
    client: whose turns count. memory: holds the bytes of frames that wait or are under way. wall: seconds since 1970,
    where a new session's time begins.
    """

    def __init__(
        self,
        channel: Channel,
        hello: Hello,
        encoding: Encoding,
        processor: FrameProcessor,
        limits: SessionLimits,
        limiter: ConcurrencyLimiter,
        *,
        token: Callable[[int, int], str],
        describe: Callable[[Exception], Problem | None],
        observer: SessionObserver,
        sequence: int = 0,
        last: float = math.nan,
        gap: float = 0.0,
        client: str = "",
        memory: Lease | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.sequence = sequence
        self._channel = channel
        self._hello = hello
        self._encoding = encoding
        self._processor = processor
        self._limits = limits
        self._limiter = limiter
        self._token = token
        self._describe = describe
        self._observer = observer
        self._clock = clock
        # Where a session goes on, clocks may be others: its time continues from the last frame's.
        self._epoch = (wall() if math.isnan(last) else last + gap) - clock()
        self._seen = last
        self._frame_clock = FrameClock(last)
        self._client = client
        self._memory = memory
        self._mailbox = Mailbox()
        self._window = Window(hello.window)
        self._looking: QueuedFrame | None = None
        self._failures = 0
        self._renewal, self._last_token, self._last_next_id = -math.inf, "", 0
        self._places = bool(hello.zones or hello.lines)
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def state(self) -> bytes:
        """What the session remembers, as of its last frame; see `codec`."""
        return self._processor.state

    @property
    def age(self) -> float:
        """Seconds since the frame that `state` is as of; 0 before the first."""
        return 0.0 if math.isnan(self._seen) else self._clock() + self._epoch - self._seen

    async def run(self, welcome: Mapping[str, Any]) -> None:
        """Greet, then serve until the client leaves (ConnectionError) or the stream is ended (StreamError)."""
        tasks = [asyncio.ensure_future(part) for part in (self._listen(), self._work(welcome), self._end)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            await task

    def end(self, code: CloseCode, reason: str) -> None:
        """End the stream from outside."""
        if not self._end.done():
            self._end.set_exception(StreamError(code, reason))

    async def go_away(self, seconds: float) -> None:
        """Tell the client that the server ends the stream in so many seconds."""
        farewell = {"type": "go_away", "closes_in_ms": round(1e3 * seconds), "token": self._renewed()}
        await self._tell(farewell)

    async def _listen(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._limits.idle):
                    message = await self._channel.receive()
            except TimeoutError as error:
                if self._looking is not None or self._mailbox.size:
                    continue  # the client may be waiting for the result of its frame
                raise StreamError(CloseCode.SILENT, f"nothing came for {self._limits.idle:g} s") from error
            if isinstance(message, bytes):
                self._account(waiting=len(message))
                self._observer.received(self._mailbox.put(message, self._clock()))
            else:
                number = read_acknowledgement(message)
                try:
                    self._window.acknowledge(number)
                except ValueError as error:
                    raise StreamError(CloseCode.BAD_MESSAGE, str(error)) from error

    async def _work(self, welcome: Mapping[str, Any]) -> None:
        await self._tell({"type": "welcome", **welcome, "token": self._renewed()})
        while True:
            held_up = not self._window.open
            if held_up:
                await self._credit()
            await self._mailbox.arrival()
            async with self._limiter.turn(self._client) as turn:
                queued = self._mailbox.take()
                self._looking = queued
                stamp, seen = await self._look(queued, held_up)
                self._looking = None
                self._account(waiting=self._mailbox.size)
                if isinstance(seen, ProcessedFrame):
                    turn.worked = seen.worked
            if isinstance(seen, ProcessedFrame):
                await self._succeed(queued, stamp, seen)
            else:
                await self._fail(queued, stamp, seen)

    def _account(self, waiting: int) -> None:
        """Hold memory for so many bytes that wait, and the frame under way. Raises StreamError where it is short."""
        if self._memory is None:
            return
        size = waiting + (len(self._looking.data) if self._looking is not None else 0)
        try:
            self._memory.grow(size - self._memory.amount)
        except QuotaExceededError as error:
            raise StreamError(CloseCode.TRY_LATER, "this server has no memory left for a frame of this size") from error

    async def _credit(self) -> None:
        """Return once one more result may be sent."""
        try:
            async with asyncio.timeout(self._limits.idle):
                await self._window.wait()
        except TimeoutError as error:
            reason = f'no result was acknowledged for {self._limits.idle:g} s; send {{"ack": FRAME}}, or window 0'
            raise StreamError(CloseCode.GONE, reason) from error

    async def _look(self, queued: QueuedFrame, held_up: bool) -> tuple[float | None, ProcessedFrame | Exception]:
        """The client's timestamp, and what is seen or went wrong: a frame's error is its answer."""
        stamp = None
        try:
            stamp, picture = read_frame(queued.data, self._hello.timestamps)
            waited = self._clock() - queued.arrived
            if held_up and waited > _STALE_S:
                raise DeadlineExceededError(f"the frame waited {waited:.1f} s for results to be acknowledged")
            taken = self._frame_clock.place(None if stamp is None else stamp / 1e3, queued.arrived + self._epoch)
            seen = await self._processor.see(picture, taken, queued.arrived + self._limits.frame)
            self._seen = taken
            return stamp, seen
        except Exception as error:  # noqa: BLE001
            return stamp, error

    async def _succeed(self, queued: QueuedFrame, stamp: float | None, seen: ProcessedFrame) -> None:
        started = time.perf_counter()
        people = embed(self._people(seen), self._encoding)
        seconds = {**seen.seconds, "serialise": time.perf_counter() - started}
        about = {
            "width": seen.width,
            "height": seen.height,
            "people": people,
            **({"events": [_plain(event) for event in seen.events]} if self._places else {}),
            "timing_ms": {part: round(1e3 * value, 3) for part, value in seconds.items()},
        }
        self._failures = 0
        self._observer.result(self._clock() - queued.arrived, seconds, len(seen.poses))
        await self._report("result", queued, stamp, about)

    def _people(self, seen: ProcessedFrame) -> list[dict[str, object]]:
        people = people_list(seen.poses)
        if self._hello.extras:
            for person, velocity, age in zip(people, seen.velocities.round(2), seen.ages.round(3), strict=True):
                person |= {"velocity": velocity, "age_s": age}
        return people

    async def _fail(self, queued: QueuedFrame, stamp: float | None, error: Exception) -> None:
        problem = self._describe(error)
        if problem is None:
            log.error("a frame failed", exc_info=error)
            problem = {"title": "The server failed on this frame"}
        self._observer.failed()
        await self._report("error", queued, stamp, {"error": problem})
        match error:
            case ClosedError():
                raise StreamError(CloseCode.GOING_AWAY, "this server is going down") from error
            case OverloadedError() | DeadlineExceededError():
                return  # nobody's fault, and it passes
        self._failures += 1
        if self._failures == _PATIENCE:
            code = CloseCode.BAD_FRAMES if isinstance(error, ImageError) else CloseCode.FAILED
            raise StreamError(code, f"{_PATIENCE} frames in a row failed; each had its error message") from error

    async def _report(self, kind: str, queued: QueuedFrame, stamp: float | None, about: Mapping[str, Any]) -> None:
        """Send what a frame came to."""
        self.sequence += 1
        self._window.sent(queued.number)
        await self._tell(
            {
                "type": kind,
                "frame": queued.number,
                "timestamp": stamp,
                "age_ms": round(1e3 * (self._clock() - queued.arrived), 3),
                "dropped": queued.dropped,
                **about,
                "token": self._renewed(),
            }
        )

    def _renewed(self) -> str:
        """A token that is fresh enough, and knows of every id that was given."""
        now, next_id = self._clock(), self._processor.next_id
        if now >= self._renewal or next_id != self._last_next_id:
            self._renewal, self._last_next_id = now + _RENEWAL_S, next_id
            self._last_token = self._token(self.sequence, next_id)
        return self._last_token

    async def _tell(self, document: Mapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._limits.idle):
                await self._channel.send(encode(document, self._encoding))
        except TimeoutError as error:
            raise StreamError(CloseCode.GONE, f"nothing was read for {self._limits.idle:g} s") from error


def _plain(event: ZoneEvent) -> dict[str, object]:
    """An event without what does not apply to it."""
    about = {"kind": event.kind, "name": event.name, "id": event.id}
    if event.direction is not None:
        about["direction"] = event.direction
    if event.seconds is not None:
        about["seconds"] = round(event.seconds, 3)
    return about
