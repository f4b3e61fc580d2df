"""The one frame of a stream that waits: the newest."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueuedFrame:
    """A frame as it came. number: 0 for the first of the connection. arrived: seconds of the session's clock.
    dropped: how many frames came and were passed over since the last that was taken.
    """

    number: int
    data: bytes
    arrived: float
    dropped: int = 0


class Mailbox:
    """Holds at most one frame. What arrives replaces what waits: a live stream wants the present, not all of the past.

    It belongs to one event loop, and one task takes from it.
    """

    def __init__(self) -> None:
        self.received = 0
        self._waiting: QueuedFrame | None = None
        self._taken = -1
        self._arrival = asyncio.Event()

    def put(self, data: bytes, arrived: float) -> int:
        """Leave a frame. Returns how many it replaced, 0 or 1."""
        replaced = int(self._waiting is not None)
        self._waiting = QueuedFrame(self.received, data, arrived)
        self.received += 1
        self._arrival.set()
        return replaced

    @property
    def size(self) -> int:
        """Bytes of the frame that waits; 0 where there is none, or an empty one."""
        return 0 if self._waiting is None else len(self._waiting.data)

    async def arrival(self) -> None:
        """Return once there is a frame."""
        await self._arrival.wait()

    def take(self) -> QueuedFrame:
        """The newest frame. There must be one, see `arrival`."""
        queued, self._waiting = self._waiting, None
        assert queued is not None  # noqa: S101 - the caller has awaited it
        self._arrival.clear()
        dropped = queued.number - self._taken - 1
        self._taken = queued.number
        return QueuedFrame(queued.number, queued.data, queued.arrived, dropped)
