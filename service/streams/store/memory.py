"""A store in the memory of one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from service.streams.store.base import Kept, Lost


@dataclass(frozen=True, slots=True)
class _Entry:
    kept: Kept
    since: float
    expires: float

    def now(self, now: float) -> Kept:
        return replace(self.kept, age=self.kept.age + now - self.since)


class MemoryStore:
    """A Store of at most `most` sessions and `most_bytes` bytes. Beyond that those kept longest ago are forgotten.

    clock: seconds.
    """

    shared = False

    def __init__(
        self, most: int = 10_000, most_bytes: int = 64_000_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._clock = clock
        self._entries: dict[str, _Entry] = {}  # the oldest first
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[tuple[str, Kept, float]]:
        """Session, state and the seconds that it has left, the oldest first."""
        now = self._clock()
        return ((name, entry.now(now), entry.expires - now) for name, entry in self._entries.items())

    async def start(self, lost: Lost) -> None:
        """See `Store.start`; nobody else can take a session from here."""

    def keep(self, session: str, kept: Kept, seconds: float) -> None:
        """See `Store.keep`. A state that is larger than all of the store is not kept."""
        older = self._entries.get(session)
        if older is not None and older.kept.order > kept.order:
            return
        self.drop(session)
        if len(kept.data) > self._most_bytes:
            return
        now = self._clock()
        self._entries[session] = _Entry(kept, now, now + seconds)
        self._bytes += len(kept.data)
        while len(self._entries) > self._most or self._bytes > self._most_bytes:
            self.drop(next(iter(self._entries)))

    async def claim(self, session: str, seconds: float) -> Kept | None:  # noqa: ARG002 - its holder keeps it again
        """See `Store.claim`. It is not kept on: the only holder will keep it again."""
        kept = self.get(session)
        self.drop(session)
        return None if kept is None else replace(kept, generation=kept.generation + 1)

    async def reap(self) -> int:
        """See `Store.reap`."""
        now = self._clock()
        for session in [name for name, entry in self._entries.items() if entry.expires <= now]:
            self.drop(session)
        return len(self._entries)

    async def flush(self, seconds: float) -> None:
        """See `Store.flush`; what is kept is kept."""

    async def close(self) -> None:
        """See `Store.close`."""

    def get(self, session: str) -> Kept | None:
        """The state, which stays; None where there is none or it has expired."""
        entry, now = self._entries.get(session), self._clock()
        return entry.now(now) if entry is not None and now < entry.expires else None

    def drop(self, session: str) -> None:
        """Forget a session, if it is known."""
        entry = self._entries.pop(session, None)
        if entry is not None:
            self._bytes -= len(entry.kept.data)
