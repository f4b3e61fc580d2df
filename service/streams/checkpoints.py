"""Keeps the state of streams while they run, so that another server can go on with them whatever becomes of this."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from service.streams.session import Session
from service.streams.store.base import Kept, Store

_TURNS = 10
"""In each interval. Streams come due in different ones, so that they are not all written in one go."""
_HURRY_S = 0.05
"""The interval while this server is being left: whoever goes on elsewhere should find the last frame's state."""


@dataclass(slots=True, eq=False)
class OpenStream:
    """A stream as long as its connection lasts. generation: see `Kept`. client: who has it. saved: what was kept last,
    and when.
    """

    session: Session
    generation: int
    client: str = ""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    saved: bytes = b""
    saved_at: float = -math.inf

    def state(self) -> Kept:
        """What is to be kept of it now."""
        return Kept(self.generation, self.session.sequence, self.session.state, self.session.age)


class Checkpoints:
    """Hands the state of each of `streams` to a store, once every `seconds` as long as it changes.

    keep_seconds: how long it is kept from then on. clock: seconds.
    """

    def __init__(
        self,
        store: Store,
        streams: Mapping[str, OpenStream],
        seconds: float,
        keep_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._streams = streams
        self._seconds = seconds
        self._keep_seconds = keep_seconds
        self._clock = clock

    async def run(self) -> None:
        """Take them for ever."""
        while True:
            await asyncio.sleep(self._seconds / _TURNS)
            self.take(self._seconds * (1 - 1 / _TURNS))  # none may be older than `seconds` before its next turn

    def take(self, age: float = 0.0) -> None:
        """Keep the state of those whose last checkpoint is so many seconds old."""
        now = self._clock()
        for name, stream in self._streams.items():
            state = stream.session.state
            if state is not stream.saved and now - stream.saved_at >= age:
                stream.saved, stream.saved_at = state, now
                self._store.keep(name, stream.state(), self._keep_seconds)

    def hurry(self) -> None:
        """Take all now, and from now on soon after each frame."""
        self.take()
        self._seconds = min(self._seconds, _HURRY_S)
