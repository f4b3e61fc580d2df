"""Somebody who watches the results of a camera over a connection, at a pace of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from service.cameras.feed import FeedState, ResultFeed
from service.process.racing import race
from service.quota import Lease, QuotaExceededError
from service.streams.flow_control import Window
from service.streams.protocol import CloseCode, Encoding, Hello, StreamError, encode, read_acknowledgement
from service.streams.results import result_members
from service.streams.session import Channel


@dataclass(eq=False, repr=False)
class ResultWatcher:
    """Sends the newest result whenever its client has room for one. Results that it misses are counted, not kept.

    hello: the camera's. window: the most unacknowledged results, 0 for no acknowledgements. interval: seconds between
    two results, at least. idle: seconds for which the client may read or acknowledge nothing. memory: holds the bytes
    of the newest message. client: whose API key or address it is. pause: called with the bytes of each result; returns
    how many seconds to wait before the next.
    """

    channel: Channel
    feed: ResultFeed
    hello: Hello
    encoding: Encoding
    window: int
    interval: float
    idle: float
    memory: Lease
    client: str
    pause: Callable[[int], float] = lambda _: 0.0

    def __post_init__(self) -> None:
        self._window = Window(self.window)
        self._news = asyncio.Event()
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, welcome: Mapping[str, Any]) -> None:
        """Send the welcome, then results until the client leaves (ConnectionError) or this is ended (StreamError)."""
        with self.feed.listening(self._hear):
            self._hear()
            await race(self._receive(), self._serve(welcome), self._end)

    def end(self, code: CloseCode, reason: str) -> None:
        """Make `run` raise StreamError, unless it has ended before."""
        if not self._end.done():
            self._end.set_exception(StreamError(code, reason))

    async def go_away(self, seconds: float) -> None:
        """Tell the client that the server will end the connection in `seconds`."""
        await self._send({"type": "go_away", "closes_in_ms": round(1e3 * seconds)})

    def _hear(self) -> None:
        self._news.set()
        if self.feed.ended is not None:
            self.end(*self.feed.ended)

    async def _receive(self) -> None:
        while True:
            message = await self.channel.receive()
            if isinstance(message, bytes):
                raise StreamError(CloseCode.BAD_MESSAGE, "this camera has frames of its own; send pictures to /stream")
            try:
                self._window.acknowledge(read_acknowledgement(message))
            except ValueError as error:
                raise StreamError(CloseCode.BAD_MESSAGE, str(error)) from error

    async def _serve(self, welcome: Mapping[str, Any]) -> None:
        await self._send({"type": "welcome", **welcome})
        loop, feed = asyncio.get_running_loop(), self.feed
        told: FeedState | None = None
        last, due = feed.frame - int(feed.newest is not None), loop.time()
        while True:
            self._news.clear()
            if feed.state != told:
                told = feed.state
                await self._send({"type": "camera", "state": told.name, "reason": told.reason})
            elif feed.newest is None or feed.frame == last:
                await self._news.wait()
            elif not self._window.open:
                await self._wait_for_window()
            elif (pause := due - loop.time()) > 0:
                await self._wait_for_news(pause)
            else:
                due = max(due + self.interval, loop.time())
                last, members = feed.frame, self._result(last)
                self._window.sent(last)
                await self._send(members)
                if (pause := self.pause(self.memory.amount)) > 0:
                    await asyncio.sleep(pause)

    def _result(self, last: int) -> dict[str, Any]:
        """Return the newest result. last: the frame of the result before, for this client."""
        feed = self.feed
        assert feed.newest is not None  # noqa: S101 - the caller has seen it
        if self.encoding not in feed.encoded:
            feed.encoded[self.encoding], _ = result_members(feed.newest.processed, self.hello, self.encoding)
        return {
            "type": "result",
            "frame": feed.frame,
            "timestamp": round(1e3 * feed.newest.time, 1),
            "age_ms": round(1e3 * feed.age, 3),
            "dropped": feed.frame - last - 1,
            **feed.encoded[self.encoding],
            **({"events": feed.events_after(last)} if self.hello.has_events else {}),
        }

    async def _wait_for_news(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return

    async def _wait_for_window(self) -> None:
        try:
            async with asyncio.timeout(self.idle):
                await self._window.wait()
        except TimeoutError as error:
            reason = f'no result was acknowledged for {self.idle:g} s; send {{"ack": FRAME}}, or window 0'
            raise StreamError(CloseCode.GONE, reason) from error

    async def _send(self, document: Mapping[str, Any]) -> None:
        message = encode(document, self.encoding)
        try:
            self.memory.grow(len(message) - self.memory.amount)
            async with asyncio.timeout(self.idle):
                await self.channel.send(message)
        except QuotaExceededError as error:
            raise StreamError(CloseCode.TRY_LATER, "this server has no memory left for a result") from error
        except TimeoutError as error:
            raise StreamError(CloseCode.GONE, f"nothing was read for {self.idle:g} s") from error
