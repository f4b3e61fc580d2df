"""Flow control of streams: results stay fresh, because newer frames replace older ones instead of queueing behind them.

`Mailbox` holds the newest frame of one stream. `Window` bounds the results that its client has not acknowledged.
`ConcurrencyLimiter` bounds how many frames of all streams of a pipeline are processed at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

_BUSY = 2.2
"""How long a frame may take, as a multiple of its own work.

At 2, the next batch is complete when one ends; above, frames wait.
"""
_DECREASE = 0.9
_START = 4.0


@dataclass(frozen=True, slots=True)
class QueuedFrame:
    """A frame as it arrived.

    number: 0 for the first frame of the connection. arrived: seconds of the session's clock. dropped: how many frames
    were dropped since the last one that was taken. earlier: chunks of video before this one, to be decoded first.
    """

    number: int
    data: bytes
    arrived: float
    dropped: int = 0
    earlier: tuple[bytes, ...] = ()


class Mailbox:
    """Holds at most one frame: a frame that arrives replaces the one that waits.

    Belongs to one event loop; only one task may take frames.
    """

    def __init__(self) -> None:
        self.received = 0
        self._waiting: QueuedFrame | None = None
        self._taken = -1
        self._arrival = asyncio.Event()

    def put(self, data: bytes, arrived: float) -> int:
        """Add a frame. Returns how many frames it replaced, 0 or 1."""
        replaced = int(self._waiting is not None)
        self._waiting = QueuedFrame(self.received, data, arrived)
        self.received += 1
        self._arrival.set()
        return replaced

    @property
    def size(self) -> int:
        """The size of the waiting frame in bytes. 0 if there is none, or an empty one."""
        return 0 if self._waiting is None else len(self._waiting.data)

    async def arrival(self) -> None:
        """Wait until there is a frame."""
        await self._arrival.wait()

    def take(self) -> QueuedFrame:
        """Remove and return the frame. There must be one, see `arrival`."""
        queued, self._waiting = self._waiting, None
        assert queued is not None  # noqa: S101 - the caller has awaited it
        self._arrival.clear()
        dropped = queued.number - self._taken - 1
        self._taken = queued.number
        return QueuedFrame(queued.number, queued.data, queued.arrived, dropped)


class Window:
    """Allows at most `size` unacknowledged results. 0 leaves flow control to the connection.

    The connection's flow control does not keep results fresh: the buffers between two machines hold hundreds of them,
    and a client that was delayed would have to read them all first.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._sent: deque[int] = deque()
        self._last = -1
        self._room = asyncio.Event()
        self._room.set()

    @property
    def open(self) -> bool:
        """True if another result may be sent."""
        return self._room.is_set()

    async def wait(self) -> None:
        """Wait until another result may be sent."""
        await self._room.wait()

    def sent(self, number: int) -> None:
        """Count the result of frame `number`. Numbers must ascend."""
        self._last = number
        if self.size:
            self._sent.append(number)
            if len(self._sent) >= self.size:
                self._room.clear()

    def acknowledge(self, number: int) -> None:
        """Mark all results up to frame `number` as handled. An older acknowledgement changes nothing.

        Raises ValueError if the frame has had no result.
        """
        if not 0 <= number <= self._last:
            last = "nothing was sent" if self._last < 0 else f"the last with a result is {self._last}"
            raise ValueError(f"frame {number} was acknowledged, but {last}")
        while self._sent and self._sent[0] <= number:
            self._sent.popleft()
        if len(self._sent) < self.size:
            self._room.set()


@dataclass(slots=True)
class ConcurrencySlot:
    """One frame that is being processed. worked: seconds of work on it, without waiting; 0 if it failed."""

    worked: float = 0.0


class ConcurrencyLimiter:
    """Limits how many frames of one pipeline's streams are processed at once to as many as keep it busy.

    A frame that is being processed cannot be replaced by a newer one. Therefore frames wait in their mailboxes, and
    hardly in the queues of the networks: with more cameras than can be served, results are rarer, but as fresh as from
    a single camera.

    The limit is learnt from how long frames take compared with their own work, as in TCP's congestion control
    (Jacobson, "Congestion Avoidance and Control", 1988). In each round, it grows by one if other frames waited for a
    slot, or doubles until it was too high for the first time; it shrinks by a tenth if frames spend their time waiting.

    Clients are served round-robin, however many streams each of them has; the streams of one client are served first
    come, first served. While a client has frames under way and others waiting, up to twice the limit are processed: the
    frames of clients that have none under way do not wait for it. Belongs to one event loop.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """clock: returns seconds."""
        self._clock = clock
        self._limit = _START
        self._under_way = 0
        self._frames: dict[str, int] = {}  # under way, by client
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by client, the next one first
        self._round: list[float] = []
        self._short = False
        self._slow_start = True

    @property
    def limit(self) -> int:
        """How many frames may be processed at once."""
        return int(self._limit)

    @asynccontextmanager
    async def slot(self, client: str = "") -> AsyncIterator[ConcurrencySlot]:
        """Wait for a slot, and hold it for as long as the context lasts."""
        await self._acquire(client)
        slot = ConcurrencySlot()
        began = self._clock()
        try:
            yield slot
        finally:
            self._count(client, -1)
            if slot.worked:
                self._learn((self._clock() - began) / slot.worked)
            self._grant()

    def _count(self, client: str, frames: int) -> None:
        self._under_way += frames
        self._frames[client] = self._frames.get(client, 0) + frames
        if not self._frames[client]:
            del self._frames[client]

    def _next(self) -> str | None:
        """The waiting client that is served next, None if all have to wait."""
        if self._under_way < self.limit:
            return next(iter(self._waiting), None)
        if self._under_way < 2 * self.limit and not self._waiting.keys().isdisjoint(self._frames):
            return next((client for client in self._waiting if client not in self._frames), None)
        return None

    async def _acquire(self, client: str) -> None:
        if self._under_way < self.limit and not self._waiting:
            self._count(client, 1)
            return
        self._short = True
        granted = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(granted)
        self._grant()
        try:
            await granted
        except asyncio.CancelledError:
            if not granted.cancelled():  # granted and cancelled in the same iteration of the event loop
                self._count(client, -1)
                self._grant()
            raise

    def _grant(self) -> None:
        while (client := self._next()) is not None:
            line = self._waiting.pop(client)
            if not (first := line.popleft()).done():  # done if it was cancelled
                self._count(client, 1)
                first.set_result(None)
            if line:
                self._waiting[client] = line  # behind all other clients

    def _learn(self, ratio: float) -> None:
        """ratio: how long a frame took, divided by its own work."""
        self._round.append(ratio)
        if len(self._round) < self.limit:
            return
        if sum(self._round) > _BUSY * len(self._round):
            self._limit = max(1.0, self._limit * _DECREASE)
            self._slow_start = False
        elif self._short:
            self._limit += self._limit if self._slow_start else 1.0
        self._round, self._short = [], False
