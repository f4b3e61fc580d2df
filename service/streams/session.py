"""One stream from its hello to its end: receives frames, processes the newest one and sends its result."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import KW_ONLY, InitVar, dataclass
from typing import Any, Protocol

from service.batching import ClosedError, DeadlineExceededError, OverloadedError
from service.media.image_files import ImageError
from service.process.racing import race
from service.quota import Lease, QuotaExceededError
from service.streams.chunks import ChunkMailbox
from service.streams.clock import FrameClock
from service.streams.flow_control import ConcurrencyLimiter, Mailbox, QueuedFrame, Window
from service.streams.frame_processor import FrameProcessor, NoPictureError, ProcessedFrame
from service.streams.protocol import (
    CloseCode,
    Encoding,
    Hello,
    StreamError,
    encode,
    read_acknowledgement,
    read_chunk,
    read_frame,
)
from service.streams.results import result_members

log = logging.getLogger(__name__)

_MAX_FAILURES = 5
"""How many frames in a row may fail before the stream is ended."""
_RENEWAL_S = 1.0
"""How old a token may be before a result carries a new one. Tokens are dated to the second, and signing takes time."""
_STALE_S = 1.0
"""Frames that waited longer than this for an acknowledgement are dropped."""

Problem = Mapping[str, Any]


class Channel(Protocol):
    """A connection that carries messages."""

    async def receive(self) -> str | bytes:
        """Return the next message. Raises ConnectionError once the client has left."""

    async def send(self, message: str | bytes) -> None:
        """Send a message. Returns when there is room for another. Raises ConnectionError once the client has left."""


class SessionObserver:
    """Receives the events of a session's frames. The methods do nothing; subclasses override them."""

    def received(self, replaced: int) -> None:
        """A frame arrived. replaced: how many waiting frames were dropped: replaced by this one, or chunks of video."""

    def decoded(self, chunks: int) -> None:
        """Chunks of video were given to the decoder."""

    def asked_for_key_frame(self) -> None:
        """The client was asked for a key frame of its video."""

    def result(self, age: float, seconds: Mapping[str, float], people: int) -> None:
        """A frame got its result. age: seconds since its arrival. seconds: where the time went, by part."""

    def failed(self) -> None:
        """A frame got an error."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Time limits of every stream of a server, in seconds.

    frame: from a frame's arrival to its deadline. idle: how long a client may send nothing, or read nothing.
    """

    frame: float
    idle: float


@dataclass(eq=False, repr=False)
class Session:
    """One connection after its hello.

    token: makes a resume token from a sequence number and the first id that has not been assigned. describe: returns
    the problem document of a frame's error, None for a defect of the server. sequence: number of results of the
    session, over all its connections. last: capture time of the session's last frame, NaN for a new session. gap:
    seconds since then. client: for the concurrency limiter. memory: holds the bytes of frames that wait or are being
    processed. publish: takes the events of a frame, and is awaited before the state after that frame may be stored.
    clock: monotonic seconds. wall: seconds since 1970, where the time of a new session begins.
    """

    channel: Channel
    hello: Hello
    encoding: Encoding
    processor: FrameProcessor
    limits: SessionLimits
    limiter: ConcurrencyLimiter
    _: KW_ONLY
    token: Callable[[int, int], str]
    describe: Callable[[Exception], Problem | None]
    observer: SessionObserver
    sequence: int = 0
    last: float = math.nan
    gap: InitVar[float] = 0.0
    client: str = ""
    memory: Lease | None = None
    publish: Callable[[ProcessedFrame], Awaitable[None]] | None = None
    clock: Callable[[], float] = time.monotonic
    wall: InitVar[Callable[[], float]] = time.time

    def __post_init__(self, gap: float, wall: Callable[[], float]) -> None:
        # Servers' clocks may differ: the time of a resumed session continues from its last frame.
        self._epoch = (wall() if math.isnan(self.last) else self.last + gap) - self.clock()
        self._frame_clock = FrameClock(self.last)
        self._chunks = ChunkMailbox() if self.hello.video else None
        self._mailbox: Mailbox | ChunkMailbox = self._chunks or Mailbox()
        self._window = Window(self.hello.window)
        self._processing: QueuedFrame | None = None
        self._failures = 0
        self._renewal, self._last_token, self._last_next_id = -math.inf, "", 0
        self._state = self.processor.state
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def state(self) -> bytes:
        """The stream's state after the last frame whose events are published, see `codec`."""
        return self._state

    @property
    def age(self) -> float:
        """Seconds since the frame that `state` belongs to. 0 before the first frame."""
        return 0.0 if math.isnan(self.last) else self.clock() + self._epoch - self.last

    async def run(self, welcome: Mapping[str, Any]) -> None:
        """Send the welcome, then serve until the client leaves (ConnectionError) or the stream ends (StreamError)."""
        await race(self._receive(), self._serve(welcome), self._end)

    def end(self, code: CloseCode, reason: str) -> None:
        """Make `run` raise StreamError, unless the stream was ended before."""
        if not self._end.done():
            self._end.set_exception(StreamError(code, reason))

    async def go_away(self, seconds: float) -> None:
        """Tell the client that the server will end the stream in `seconds`."""
        await self._send({"type": "go_away", "closes_in_ms": round(1e3 * seconds), "token": self._current_token()})

    async def _receive(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self.limits.idle):
                    message = await self.channel.receive()
            except TimeoutError as error:
                if self._processing is not None or self._mailbox.size:
                    continue  # the client may be waiting for the result of its frame
                raise StreamError(CloseCode.SILENT, f"nothing came for {self.limits.idle:g} s") from error
            if isinstance(message, bytes):
                await self._take_in(message)
            else:
                number = read_acknowledgement(message)
                try:
                    self._window.acknowledge(number)
                except ValueError as error:
                    raise StreamError(CloseCode.BAD_MESSAGE, str(error)) from error

    async def _take_in(self, message: bytes) -> None:
        """Let a frame, or a chunk of video, wait."""
        if self._chunks is None:
            self._account(waiting=len(message))
            self.observer.received(self._mailbox.put(message, self.clock()))
            return
        key = read_chunk(message, self.hello.timestamps).key
        self._account(waiting=self._chunks.size + len(message))
        self.observer.received(self._chunks.put(message, self.clock(), key=key))
        self._account(waiting=self._chunks.size)
        await self._ask_for_key_frame()

    async def _ask_for_key_frame(self) -> None:
        if self._chunks is not None and self._chunks.ask_now(self.clock()):
            self.observer.asked_for_key_frame()
            await self._send({"type": "key_frame", "token": self._current_token()})

    async def _serve(self, welcome: Mapping[str, Any]) -> None:
        await self._send({"type": "welcome", **welcome, "token": self._current_token()})
        while True:
            held_up = not self._window.open
            if held_up:
                await self._wait_for_window()
            await self._mailbox.arrival()
            async with self.limiter.slot(self.client) as slot:
                queued = self._mailbox.take()
                self._processing = queued
                timestamp, outcome = await self._process(queued, held_up)
                self._processing = None
                self._account(waiting=self._mailbox.size)
                if isinstance(outcome, ProcessedFrame):
                    slot.worked = outcome.worked
            if self._chunks is not None and self.processor.needs_key_frame:
                self._chunks.lose()
                await self._ask_for_key_frame()
            if isinstance(outcome, ProcessedFrame):
                await self._succeed(queued, timestamp, outcome)
            elif not isinstance(outcome, NoPictureError):
                await self._fail(queued, timestamp, outcome)

    def _account(self, waiting: int) -> None:
        """Hold memory for the bytes of the waiting frame and the frame being processed.

        Raises StreamError if there is not enough memory.
        """
        if self.memory is None:
            return
        being_processed = () if self._processing is None else (self._processing.data, *self._processing.earlier)
        size = waiting + sum(map(len, being_processed))
        try:
            self.memory.grow(size - self.memory.amount)
        except QuotaExceededError as error:
            raise StreamError(CloseCode.TRY_LATER, "this server has no memory left for a frame of this size") from error

    async def _wait_for_window(self) -> None:
        """Wait until another result may be sent. Raises StreamError if the client acknowledges none in time."""
        try:
            async with asyncio.timeout(self.limits.idle):
                await self._window.wait()
        except TimeoutError as error:
            reason = f'no result was acknowledged for {self.limits.idle:g} s; send {{"ack": FRAME}}, or window 0'
            raise StreamError(CloseCode.GONE, reason) from error

    async def _process(self, queued: QueuedFrame, held_up: bool) -> tuple[float | None, ProcessedFrame | Exception]:
        """Return the client's timestamp, and the processed frame or the exception that it raised.

        held_up: the frame waited for an acknowledgement.
        """
        timestamp = None
        try:
            timestamp, picture, earlier = self._read(queued)
            waited = self.clock() - queued.arrived
            if held_up and waited > _STALE_S and self._chunks is None:  # every chunk must be decoded
                raise DeadlineExceededError(f"the frame waited {waited:.1f} s for results to be acknowledged")
            client_time = None if timestamp is None else timestamp / 1e3
            taken = self._frame_clock.convert(client_time, queued.arrived + self._epoch)
            processed = await self.processor.process(picture, taken, queued.arrived + self.limits.frame, earlier)
            if self.publish is not None and processed.events:
                await self.publish(processed)
            self.last, self._state = taken, self.processor.state
            return timestamp, processed
        except Exception as error:  # noqa: BLE001 - sent to the client in place of a result
            return timestamp, error

    def _read(self, queued: QueuedFrame) -> tuple[float | None, bytes, list[bytes]]:
        """Return the client's timestamp, the picture or chunk, and the chunks before it. Raises NotAnImageError."""
        if self._chunks is None:
            return *read_frame(queued.data, self.hello.timestamps), []
        earlier = [read_chunk(message, self.hello.timestamps).data for message in queued.earlier]
        newest = read_chunk(queued.data, self.hello.timestamps)
        self.observer.decoded(len(earlier) + 1)
        return newest.timestamp, newest.data, earlier

    async def _succeed(self, queued: QueuedFrame, timestamp: float | None, processed: ProcessedFrame) -> None:
        members, seconds = result_members(processed, self.hello, self.encoding)
        self._failures = 0
        self.observer.result(self.clock() - queued.arrived, seconds, len(processed.poses))
        await self._report("result", queued, timestamp, members)

    async def _fail(self, queued: QueuedFrame, timestamp: float | None, error: Exception) -> None:
        problem = self.describe(error)
        if problem is None:
            log.error("a frame failed", exc_info=error)
            problem = {"title": "The server failed on this frame"}
        self.observer.failed()
        await self._report("error", queued, timestamp, {"error": problem})
        match error:
            case ClosedError():
                raise StreamError(CloseCode.GOING_AWAY, "this server is going down") from error
            case OverloadedError() | DeadlineExceededError():
                return  # temporary, and not caused by the frame
        self._failures += 1
        if self._failures == _MAX_FAILURES:
            code = CloseCode.BAD_FRAMES if isinstance(error, ImageError) else CloseCode.FAILED
            raise StreamError(code, f"{_MAX_FAILURES} frames in a row failed; each had its error message") from error

    async def _report(
        self, kind: str, queued: QueuedFrame, timestamp: float | None, members: Mapping[str, Any]
    ) -> None:
        self.sequence += 1
        self._window.sent(queued.number)
        await self._send(
            {
                "type": kind,
                "frame": queued.number,
                "timestamp": timestamp,
                "age_ms": round(1e3 * (self.clock() - queued.arrived), 3),
                "dropped": queued.dropped,
                **members,
                "token": self._current_token(),
            }
        )

    def _current_token(self) -> str:
        """Return the last token, or a new one if that is too old or an id has been assigned since."""
        now, next_id = self.clock(), self.processor.next_id
        if now >= self._renewal or next_id != self._last_next_id:
            self._renewal, self._last_next_id = now + _RENEWAL_S, next_id
            self._last_token = self.token(self.sequence, next_id)
        return self._last_token

    async def _send(self, document: Mapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(self.limits.idle):
                await self.channel.send(encode(document, self.encoding))
        except TimeoutError as error:
            raise StreamError(CloseCode.GONE, f"nothing was read for {self.limits.idle:g} s") from error
