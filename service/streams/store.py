"""Where the state of a stream waits for its client to come back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Store(Protocol):
    """Keeps a few kB for each session that has no connection. A session's state is taken once: by who resumes it."""

    async def put(self, session: str, state: bytes, seconds: float) -> None:
        """Keep a state for so long, in place of an older one of the session."""

    async def take(self, session: str) -> bytes | None:
        """The state, which is forgotten with that; None where there is none any more."""

    async def reap(self) -> int:
        """Forget what has expired. Returns how many states are left."""


class MemoryStore:
    """A Store in this process, of at most `most` sessions and `most_bytes` bytes. Beyond that the oldest are forgotten.

    clock: seconds.
    """

    def __init__(
        self, most: int = 10_000, most_bytes: int = 64_000_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._clock = clock
        self._states: dict[str, tuple[float, bytes]] = {}  # the oldest first
        self._bytes = 0

    async def put(self, session: str, state: bytes, seconds: float) -> None:
        """See `Store.put`. A state that is larger than all of the store is not kept."""
        self._drop(session)
        if len(state) > self._most_bytes:
            return
        self._states[session] = self._clock() + seconds, state
        self._bytes += len(state)
        while len(self._states) > self._most or self._bytes > self._most_bytes:
            self._drop(next(iter(self._states)))

    async def take(self, session: str) -> bytes | None:
        """See `Store.take`."""
        expires, state = self._states.get(session, (0.0, b""))
        self._drop(session)
        return state if state and self._clock() < expires else None

    async def reap(self) -> int:
        """See `Store.reap`."""
        now = self._clock()
        for session in [name for name, (expires, _) in self._states.items() if expires <= now]:
            self._drop(session)
        return len(self._states)

    def _drop(self, session: str) -> None:
        _, state = self._states.pop(session, (0.0, b""))
        self._bytes -= len(state)
