"""A stream that reconnects and resumes by itself, and reports gaps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode

from .attempts import Attempts
from .connection import Connection, LostError, SentFrame
from .errors import ClientError, unreadable
from .results import UNREADABLE, Gap, StreamResult, read_result
from .video import VideoEncoder, VideoFrame

_SILENT, _GONE = 4408, 4410
_STEADY_S = 5.0
"""A connection that lasted this long is replaced at once. After shorter ones there are growing pauses."""
_QUIET_S = 0.5
"""How long to wait for the last results of a server that shuts down, before switching to another one."""


@dataclass(frozen=True, slots=True)
class _ReceivedResult:
    """A result, and the connection and frame number of its acknowledgement."""

    connection: Connection
    frame: int
    result: StreamResult


class Stream:
    """Sends frames and receives results. An asynchronous context manager, and an iterator over the results.

    Frames are not queued: if they come faster than they can be sent or processed, the newest replaces the others. If a
    connection is lost before the result of the newest frame, the frame is sent again on the next connection. When a
    server announces its shutdown, the stream moves to another one first.

    urls: URLs of the servers. hello: see GET /docs/stream. patience: seconds of attempts to reconnect. With a `video`
    in the hello, frames are encoded here, see `VideoEncoder`; those that are replaced by newer ones are not.
    clock: seconds since 1970, for frames without a timestamp.
    """

    def __init__(
        self,
        urls: Sequence[str],
        headers: Mapping[str, str],
        hello: Mapping[str, Any],
        patience: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.session = ""
        self.welcome: Mapping[str, Any] = {}
        self._headers = headers
        self._hello = {**hello, "timestamps": True}
        self._clock = clock
        self._encoder = VideoEncoder(hello["video"]) if hello.get("video") else None
        self._attempts = Attempts(urls, patience)
        self._token = ""
        self._count = 0
        self._answered = -1
        self._pending: SentFrame | None = None  # the newest frame, while it has no result
        self._changed = asyncio.Event()  # there is a newer frame, or sending is allowed again
        self._held = False
        self._finished = False
        self._gap: Gap | None = None  # since the last result
        self._kept = True  # True if ids have continued since the last result
        # Bounded by the window, if the hello has one, because results are acknowledged when they are taken.
        self._results: asyncio.Queue[_ReceivedResult | ClientError | None] = asyncio.Queue()
        self._ended: ClientError | None = None
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect. Raises ClientError if that fails."""
        self._attempts.restart(pauses=True)
        self._connection = await self._search()
        self._task = asyncio.create_task(self._run(self._connection), name="posewire-stream")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._connection is not None:
            await self._connection.close()  # the task may have been cancelled before it started

    async def send(self, picture: bytes | VideoFrame, timestamp: float | None = None) -> int:
        """Send a frame: JPEG, PNG or WebP, or a frame of a video. timestamp: milliseconds, on one clock for all frames.

        Returns its number. Raises ClientError if the stream has ended, and TypeError for a file name, for pixels if the
        hello has no `video`, and for bytes if it has one.
        """
        if isinstance(picture, str):
            raise TypeError(f"a frame is bytes; of a file, Path({picture!r}).read_bytes()")
        if isinstance(picture, bytes) != (self._encoder is None):
            raise TypeError(
                "frames are bytes of pictures, or with `video` in the hello (h, w, 3) uint8 RGB or av frames"
            )
        if self._ended is not None:
            raise self._ended
        number = self._count
        self._count += 1
        self._pending = SentFrame(number, 1e3 * self._clock() if timestamp is None else timestamp, picture)
        self._changed.set()
        await asyncio.sleep(0)  # let the sending task run
        return number

    async def ask(self, picture: bytes | VideoFrame, timestamp: float | None = None) -> StreamResult:
        """Send a frame and wait for its result. Results of earlier frames are skipped."""
        number = await self.send(picture, timestamp)
        async for result in self:
            if result.frame >= number:
                return result
        raise ClientError("the stream was finished while a frame was on its way")

    def finish(self) -> None:
        """Send no more frames. The iteration ends after the result of the last one."""
        self._finished = True
        self._end_if_done()

    def __aiter__(self) -> AsyncIterator[StreamResult]:
        """Iterate over the results, in order. Raises ClientError if the stream cannot continue."""
        return self

    async def __anext__(self) -> StreamResult:
        """Return the next result, and acknowledge it."""
        if self._ended is not None and self._results.empty():
            raise self._ended
        received = await self._results.get()
        if isinstance(received, ClientError):
            raise received
        if received is None:
            raise StopAsyncIteration
        await received.connection.acknowledge(received.frame)
        return received.result

    async def _run(self, connection: Connection) -> None:
        """Serve one connection after another until the stream fails."""
        try:
            while True:
                connection = self._connection = await self._serve(connection)
        except ClientError as error:
            self._ended = error
        except UNREADABLE as error:
            self._ended = unreadable(error)
        except Exception as error:  # noqa: BLE001 - raised to the caller, who waits for results
            self._ended = ClientError(f"the client failed: {error!r}")
            self._ended.__cause__ = error
        self._results.put_nowait(self._ended)

    async def _serve(self, connection: Connection) -> Connection:
        """Use a connection until it ends or has a successor. Returns the next connection."""
        self._held = False
        if self._encoder is not None:
            self._encoder.want_key_frame()  # another decoder
        loops: list[Coroutine[Any, Any, Connection]] = [
            self._receive(connection),
            self._send(connection),
            self._leave(connection),
        ]
        tasks = [asyncio.create_task(loop) for loop in loops]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if connection.leaving.is_set():  # while a successor connects, the old connection may end
                began = time.monotonic()
                successor = await tasks[2]
                lost = [error for task in done if isinstance(error := task.exception(), LostError)]
                if lost and self._gap is None:
                    self._gap = Gap(time.monotonic() - began, self._kept, str(lost[0]))
                return successor
            try:
                return await done.pop()
            except LostError as error:
                return await self._reconnect(connection, error)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await connection.close()

    async def _receive(self, connection: Connection) -> Connection:
        while True:
            message = await connection.receive()
            self._token = message.get("token", self._token)
            if message.get("type") == "key_frame" and self._encoder is not None:
                self._encoder.want_key_frame()
                connection.newest = -1  # the newest frame, if it has no result, is sent once more
                self._changed.set()
            if "frame" in message:
                number = connection.number(message["frame"])
                if number > self._answered:
                    self._take(connection, message, number)
                else:
                    await connection.acknowledge(message["frame"])  # of a frame that was sent twice

    def _take(self, connection: Connection, message: Mapping[str, Any], number: int) -> None:
        result = read_result(message, number, number - self._answered - 1, self._gap)
        self._answered, self._gap, self._kept = number, None, True
        if self._pending is not None and self._pending.number <= number:
            self._pending = None
        self._results.put_nowait(_ReceivedResult(connection, message["frame"], result))
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._finished and self._pending is None:
            self._results.put_nowait(None)

    async def _send(self, connection: Connection) -> Connection:
        while True:
            frame = self._pending
            if frame is not None and frame.number != connection.newest and not self._held:
                if self._encoder is None:
                    await connection.send(frame, frame.data)
                else:
                    chunk = await asyncio.to_thread(self._encoder.encode, frame.data)
                    await connection.send(frame, chunk)
            else:
                self._changed.clear()
                await self._changed.wait()

    async def _leave(self, connection: Connection) -> Connection:
        """Wait for the server's announcement of its shutdown, then open a connection to another server."""
        await connection.leaving.wait()
        await self._pause(connection, LostError("the server goes down"))
        successor = await self._search(predecessor=connection)
        if not self._kept:
            self._gap = Gap(0.0, kept=False, reason=successor.why)
        return successor

    async def _pause(self, connection: Connection, lost: LostError) -> None:
        """Pause before the next connection. Raises UnavailableError after too many failures."""
        steady = connection.age >= _STEADY_S
        if steady or connection.useful:
            self._attempts.restart(pauses=steady)
        if lost.refused or not steady:
            await asyncio.sleep(self._attempts.failed(str(lost), lost.retry_after, refused=lost.refused))

    async def _reconnect(self, old: Connection, lost: LostError) -> Connection:
        """Return the next connection after a lost one. A stream that was closed as idle waits for the next frame."""
        began = time.monotonic()
        while lost.code in (_SILENT, _GONE) and self._pending is None:
            self._changed.clear()
            await self._changed.wait()
        await self._pause(old, lost)
        connection = await self._search()
        self._gap = Gap(time.monotonic() - began, self._kept, connection.why or str(lost))
        return connection

    async def _search(self, predecessor: Connection | None = None) -> Connection:
        """Connect, trying all servers in turn. Raises ClientError if none accepts."""
        while True:
            try:
                return await self._connect(self._attempts.url, predecessor)
            except UNREADABLE as error:
                raise unreadable(error) from error
            except LostError as error:
                self._held = False
                self._changed.set()
                hurry = predecessor is not None  # the predecessor ends soon
                refused = error.refused and not hurry
                await asyncio.sleep(self._attempts.failed(str(error), error.retry_after, refused=refused))

    async def _connect(self, url: str, predecessor: Connection | None) -> Connection:
        """Open a connection and receive its welcome. predecessor: gets no frames after the new one is open."""
        # By the last session's id, a load balancer can find the server that had it
        query = f"?{urlencode({'session': self.session})}" if self.session else ""
        connection = await Connection.open(url, self._headers, f"stream{query}")
        try:
            if predecessor is not None:
                self._held = True  # the successor would not know of frames sent from now on
                with suppress(TimeoutError):
                    async with asyncio.timeout(_QUIET_S):
                        await predecessor.quiet.wait()
            welcome = await connection.greet({**self._hello, **({"resume": self._token} if self._token else {})})
            self._kept = self._kept and (welcome["resumed"] or not self._token)
            connection.why = welcome.get("detail", "")
            self.session, self.welcome, self._token = welcome["session"], welcome, welcome["token"]
        except BaseException:
            await connection.close()
            raise
        return connection
