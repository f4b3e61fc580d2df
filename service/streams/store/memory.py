"""A store in the memory of one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from service.streams.store.base import Store, StoredState


@dataclass(frozen=True, slots=True)
class _Entry:
    state: StoredState
    since: float
    expires: float

    def aged(self, now: float) -> StoredState:
        return replace(self.state, age=self.state.age + now - self.since)


class MemoryStore(Store):
    """A Store of at most `most` sessions and `most_bytes` bytes. When it is full, the oldest states are removed.

    clock: returns seconds.
    """

    def __init__(
        self, most: int = 10_000, most_bytes: int = 64_000_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._clock = clock
        self._entries: dict[str, _Entry] = {}  # oldest first
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[tuple[str, StoredState, float]]:
        """Iterate over sessions, their states and the seconds until they expire, oldest first."""
        now = self._clock()
        return ((name, entry.aged(now), entry.expires - now) for name, entry in self._entries.items())

    def keep(self, session: str, state: StoredState, seconds: float) -> None:
        """See `Store.keep`. A state larger than the store is not kept."""
        older = self._entries.get(session)
        if older is not None and older.state.order > state.order:
            return
        self.drop(session)
        if len(state.data) > self._most_bytes:
            return
        now = self._clock()
        self._entries[session] = _Entry(state, now, now + seconds)
        self._bytes += len(state.data)
        while len(self._entries) > self._most or self._bytes > self._most_bytes:
            self.drop(next(iter(self._entries)))

    async def claim(self, session: str, seconds: float) -> StoredState | None:  # noqa: ARG002 - it is removed
        """See `Store.claim`. The state is removed: its only holder will keep it again."""
        state = self.get(session)
        self.drop(session)
        return None if state is None else replace(state, generation=state.generation + 1)

    async def reap(self) -> int:
        now = self._clock()
        for session in [name for name, entry in self._entries.items() if entry.expires <= now]:
            self.drop(session)
        return len(self._entries)

    def get(self, session: str) -> StoredState | None:
        """Return a state and keep it. None if there is none or it has expired."""
        entry, now = self._entries.get(session), self._clock()
        return entry.aged(now) if entry is not None and now < entry.expires else None

    def drop(self, session: str) -> None:
        """Remove a session, if it is there."""
        entry = self._entries.pop(session, None)
        if entry is not None:
            self._bytes -= len(entry.state.data)
