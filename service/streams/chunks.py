"""The mailbox of a stream whose client sends compressed video: no chunk may be lost, as later ones depend on it."""

from __future__ import annotations

import asyncio

from service.streams.flow_control import QueuedFrame

_MOST_CHUNKS = 90
_MOST_BYTES = 8_000_000
"""Bounds of what waits: some seconds of video. A single chunk may be larger."""
_ASK_EVERY_S = 0.5
"""The least time between two requests for a key frame. An encoder needs that long to answer over a slow network."""


class ChunkMailbox:
    """Holds the chunks that wait, all to be decoded in order; the newest one is looked at.

    Chunks that cannot be decoded, because others before them are lost, are dropped until there is a key frame.
    Belongs to one event loop; only one task may take chunks.
    """

    def __init__(self) -> None:
        self.received = 0
        self.size = 0
        self._waiting: list[tuple[QueuedFrame, bool]] = []
        self._needs_key = True
        self._asked = -_ASK_EVERY_S
        self._taken = -1
        self._arrival = asyncio.Event()

    def put(self, data: bytes, arrived: float, *, key: bool = False) -> int:
        """Add a chunk. key: it is a key frame. Returns how many chunks were dropped."""
        number = self.received
        self.received += 1
        self._needs_key = self._needs_key and not key
        if self._needs_key:
            return 1
        self._waiting.append((QueuedFrame(number, data, arrived), key))
        self.size += len(data)
        self._arrival.set()
        if len(self._waiting) > _MOST_CHUNKS or (self.size > _MOST_BYTES and len(self._waiting) > 1):
            return self.lose()
        return 0

    def lose(self) -> int:
        """The decoder's state, or a chunk, is lost: go on with the newest key frame that waits, or with the next one.

        Returns how many chunks were dropped.
        """
        last = max((n for n, (_, key) in enumerate(self._waiting) if key and n), default=len(self._waiting))
        kept = self._waiting[last:]
        self._needs_key = not kept
        self._waiting, self.size = kept, sum(len(queued.data) for queued, _ in kept)
        if not kept:
            self._arrival.clear()
        return last

    def ask_now(self, now: float) -> bool:
        """True if a key frame is to be asked for now, in seconds of any clock: one is needed, and asking is not early.

        Before the first chunk, there is no need to ask.
        """
        if not self._needs_key or not self.received or now - self._asked < _ASK_EVERY_S:
            return False
        self._asked = now
        return True

    async def arrival(self) -> None:
        """Wait until there is a chunk."""
        await self._arrival.wait()

    def take(self) -> QueuedFrame:
        """Remove all chunks. Returns the newest, with the others before it. There must be one, see `arrival`."""
        waiting, self._waiting, self.size = self._waiting, [], 0
        self._arrival.clear()
        newest, _ = waiting[-1]
        dropped = newest.number - self._taken - 1
        self._taken = newest.number
        earlier = tuple(queued.data for queued, _ in waiting[:-1])
        return QueuedFrame(newest.number, newest.data, newest.arrived, dropped, earlier)
