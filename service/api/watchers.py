"""Who watches the cameras now: their share of the event loop, and their end at a shutdown or without their API key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from service.api.problems import ApiError
from service.quota import ClientBuckets
from service.streams.protocol import CloseCode

_NOTICE_S = 2.0
"""How long it may take to tell all watchers that the server shuts down, and then to end them."""
_RATE, _BURST = 1_000, 1_000
"""Messages that one client's watchers get together, a second and at once. Each takes some 0.1 ms of the event loop."""
_MESSAGE_BYTES = 1 << 16
"""Larger messages count as several."""


class CameraWatcher(Protocol):
    """A connection that lasts until it is ended. client: the name of its API key, or its address."""

    client: str

    def end(self, code: CloseCode, reason: str) -> None:
        """End the connection."""

    async def go_away(self, seconds: float) -> None:
        """Tell the client that the connection will end in `seconds`."""


class CameraWatchers:
    """All open connections that watch a camera. Belongs to one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rates = ClientBuckets(_RATE, _BURST)
        self._open: set[CameraWatcher] = set()
        self._left = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def hold(self, watcher: CameraWatcher) -> Iterator[None]:
        """Register a watcher for as long as the context lasts. Raises ApiError while the server shuts down."""
        if self._closed:
            raise ApiError("overloaded", "this server is shutting down; try another", retry_after_s=1.0)
        self._open.add(watcher)
        try:
            yield
        finally:
            self._open.discard(watcher)
            self._left.set()

    def pause(self, client: str, size: int) -> float:
        """Count a message to a watcher of this client. size: in bytes. Return the seconds to wait before the next.

        The more watchers a client has, the fewer results and pictures each of them gets.
        """
        now = self._clock()
        return self._rates.of(client, now).charge(1 + size // _MESSAGE_BYTES, now)

    def end_unauthorized(self, admits: Callable[[str], bool]) -> None:
        """End the watchers whose client is no longer admitted."""
        for watcher in self._open:
            if not admits(watcher.client):
                watcher.end(CloseCode.UNAUTHORIZED, "the API key is not one that this server accepts any more")

    async def go_away(self, seconds: float) -> None:
        """Refuse new watchers, and tell the others that they end in `seconds`."""
        self._closed = True
        notices = asyncio.gather(*(watcher.go_away(seconds) for watcher in self._open), return_exceptions=True)
        await asyncio.wait([asyncio.ensure_future(notices)], timeout=_NOTICE_S)

    async def close(self) -> None:
        """End all watchers. Returns when they have left, so that each is told why."""
        self._closed = True
        for watcher in self._open:
            watcher.end(CloseCode.GOING_AWAY, "this server is going down; connect again")
        with suppress(TimeoutError):
            async with asyncio.timeout(_NOTICE_S):
                while self._open:
                    self._left.clear()
                    await self._left.wait()
