"""A stream that survives its connections: it resumes by itself, and tells of gaps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from service.client.attempts import Attempts
from service.client.connection import Connection, LostError, SentFrame
from service.client.errors import ClientError
from service.client.results import UNREADABLE, Gap, StreamResult, read_result

_SILENT, _GONE = 4408, 4410
_STEADY_S = 5.0
"""A connection that lasted so long is replaced at once. After shorter ones there are pauses, ever longer."""
_QUIET_S = 0.5
"""How long to wait for the last results of a server that goes down, before another goes on."""


@dataclass(frozen=True, slots=True)
class _Heard:
    """A result, and by which connection and number it is to be acknowledged."""

    connection: Connection
    frame: int
    result: StreamResult


class Stream:
    """Frames in, results out. An asynchronous context manager, and an iterator of the results.

    Frames never queue up: where they come faster than they can be sent or served, the newest wins. A frame whose result
    is lost with a connection is sent again over the next, if there was no newer one. A server that goes down in good
    order is left before it ends.

    urls: of the servers. hello: see GET /docs/stream. patience: seconds for which another connection is looked for.
    clock: seconds since 1970, of frames that have no timestamp.
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
        self._attempts = Attempts(urls, patience)
        self._token = ""
        self._count = 0
        self._answered = -1
        self._picture: SentFrame | None = None  # the newest that has no result
        self._changed = asyncio.Event()  # there is a newer picture, or it may be sent now
        self._held = False
        self._finished = False
        self._gap: Gap | None = None  # since the last result
        self._kept = True  # ids go on since then
        # Bounded by the window, where the hello has one: what is not taken from here is not acknowledged.
        self._results: asyncio.Queue[_Heard | ClientError | None] = asyncio.Queue()
        self._ended: ClientError | None = None
        self._connection: Connection | None = None
        self._life: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect. Raises ClientError where that cannot be done."""
        self._attempts.restart(pauses=True)
        self._connection = await self._search()
        self._life = asyncio.create_task(self._live(self._connection), name="posewire-stream")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._life is not None:
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)
        if self._connection is not None:
            await self._connection.close()  # the task may have been cancelled before it began

    async def send(self, picture: bytes, timestamp: float | None = None) -> int:
        """Show a frame: JPEG, PNG or WebP. timestamp: milliseconds, on one clock for all. Returns its number.

        Raises ClientError where the stream has ended, and TypeError for a name of a file.
        """
        if isinstance(picture, str):
            raise TypeError(f"a frame is bytes; of a file, Path({picture!r}).read_bytes()")
        if self._ended is not None:
            raise self._ended
        number = self._count
        self._count += 1
        self._picture = SentFrame(number, 1e3 * self._clock() if timestamp is None else timestamp, picture)
        self._changed.set()
        await asyncio.sleep(0)  # for the task that sends it
        return number

    async def ask(self, picture: bytes, timestamp: float | None = None) -> StreamResult:
        """Show a frame and wait for what comes of it; results of earlier ones are passed over."""
        number = await self.send(picture, timestamp)
        async for result in self:
            if result.frame >= number:
                return result
        raise ClientError("the stream was finished while a frame was on its way")

    def finish(self) -> None:
        """Show no more frames: the iteration ends with the result of the last."""
        self._finished = True
        self._end_if_done()

    def __aiter__(self) -> AsyncIterator[StreamResult]:
        """Results, in order. Raises ClientError where the stream cannot go on."""
        return self

    async def __anext__(self) -> StreamResult:
        """The next result, which counts as handled with that."""
        if self._ended is not None and self._results.empty():
            raise self._ended
        heard = await self._results.get()
        if isinstance(heard, ClientError):
            raise heard
        if heard is None:
            raise StopAsyncIteration
        await heard.connection.acknowledge(heard.frame)
        return heard.result

    async def _live(self, connection: Connection) -> None:
        """From connection to connection, for ever."""
        try:
            while True:
                connection = self._connection = await self._serve(connection)
        except ClientError as error:
            self._ended = error
        except UNREADABLE as error:
            self._ended = _unreadable(error)
        except Exception as error:  # noqa: BLE001 - it is raised at the caller, who waits for results
            self._ended = ClientError(f"the client failed: {error!r}")
            self._ended.__cause__ = error
        self._results.put_nowait(self._ended)

    async def _serve(self, connection: Connection) -> Connection:
        """Use a connection until there is a better one, or it ends. Returns the next."""
        self._held = False
        parts: list[Coroutine[Any, Any, Connection]] = [
            self._listen(connection),
            self._show(connection),
            self._leave(connection),
        ]
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if connection.leaving.is_set():  # a successor is being looked for, and its coming may end the old one
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

    async def _listen(self, connection: Connection) -> Connection:
        while True:
            message = await connection.hear()
            self._token = message.get("token", self._token)
            if "frame" in message:
                self._take(connection, message)

    def _take(self, connection: Connection, message: Mapping[str, Any]) -> None:
        number = connection.number(message["frame"])
        result = read_result(message, number, number - self._answered - 1, self._gap)
        self._answered, self._gap, self._kept = number, None, True
        if self._picture is not None and self._picture.number <= number:
            self._picture = None
        self._results.put_nowait(_Heard(connection, message["frame"], result))
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._finished and self._picture is None:
            self._results.put_nowait(None)

    async def _show(self, connection: Connection) -> Connection:
        while True:
            picture = self._picture
            if picture is not None and picture.number != connection.newest and not self._held:
                await connection.show(picture)
            else:
                self._changed.clear()
                await self._changed.wait()

    async def _leave(self, connection: Connection) -> Connection:
        """The connection that takes over from one whose server goes down, while that still serves."""
        await connection.leaving.wait()
        await self._pause(connection, LostError("the server goes down"))
        successor = await self._search(predecessor=connection)
        if not self._kept:
            self._gap = Gap(0.0, kept=False, reason=successor.why)
        return successor

    async def _pause(self, connection: Connection, lost: LostError) -> None:
        """Wait before another connection is looked for. Raises UnavailableError where too many came to nothing."""
        steady = connection.age >= _STEADY_S
        if steady or connection.useful:
            self._attempts.restart(pauses=steady)
        if lost.refused or not steady:
            await asyncio.sleep(self._attempts.failed(str(lost), lost.retry_after, refused=lost.refused))

    async def _reconnect(self, old: Connection, lost: LostError) -> Connection:
        """The next connection after one that was lost; a stream that was idle waits until it is needed."""
        began = time.monotonic()
        while lost.code in (_SILENT, _GONE) and self._picture is None:
            self._changed.clear()
            await self._changed.wait()
        await self._pause(old, lost)
        connection = await self._search()
        self._gap = Gap(time.monotonic() - began, self._kept, connection.why or str(lost))
        return connection

    async def _search(self, predecessor: Connection | None = None) -> Connection:
        """A connection, for which all servers are asked in turn. Raises ClientError where none is to be had."""
        while True:
            try:
                return await self._connect(self._attempts.url, predecessor)
            except UNREADABLE as error:
                raise _unreadable(error) from error
            except LostError as error:
                self._held = False
                self._changed.set()
                hurry = predecessor is not None  # it serves only for a moment more
                refused = error.refused and not hurry
                await asyncio.sleep(self._attempts.failed(str(error), error.retry_after, refused=refused))

    async def _connect(self, url: str, predecessor: Connection | None) -> Connection:
        """A connection that was welcomed. predecessor: takes no more frames once the other is there."""
        connection = await Connection.open(url, self._headers, self.session)
        try:
            if predecessor is not None:
                self._held = True  # what it saw from now on, its successor would not know of
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


def _unreadable(error: Exception) -> ClientError:
    return ClientError(f"the server has sent what this client cannot read: {error!r}")
