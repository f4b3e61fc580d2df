"""Streams take turns: no more frames are under way than the networks can make use of."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

_BUSY = 2.2
"""How many times its own work a frame may take. At 2 each batch finds the next one complete: more only waits."""
_LESS = 0.9
_START = 4.0


class ConcurrencyLimiter:
    """Lets so many frames of one pipeline's streams be looked at as keep it busy; the others wait for their turn.

    A frame under way cannot be replaced by a newer one. So frames wait here, each as the newest of its stream, and
    hardly in the networks' queues: with more cameras than can be served each result is as fresh as it would be alone,
    only rarer. How many are under way is learnt from what their time is spent on, as TCP does it (Jacobson, "Congestion
    Avoidance and Control", 1988): one more in each round while others wait for a turn (twice as many until it was too
    much once), a tenth less where frames spend their time waiting.

    Clients are served in turn, whatever number of streams each of them has; the streams of one client in the order in
    which they ask. It belongs to one event loop.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """clock: seconds."""
        self._clock = clock
        self._most = _START
        self._under_way = 0
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by client, the next one first
        self._round: list[float] = []
        self._short = False
        self._slow_start = True

    @property
    def most(self) -> int:
        """How many frames may be under way at once."""
        return int(self._most)

    @asynccontextmanager
    async def turn(self, client: str = "") -> AsyncIterator[ConcurrencySlot]:
        """Wait for a turn of this client, and have it for as long as the context lasts."""
        await self._begin(client)
        turn = ConcurrencySlot()
        began = self._clock()
        try:
            yield turn
        finally:
            self._under_way -= 1
            if turn.worked:
                self._learn((self._clock() - began) / turn.worked)
            self._next()

    async def _begin(self, client: str) -> None:
        if self._under_way < self.most and not self._waiting:
            self._under_way += 1
            return
        self._short = True
        mine = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():  # the turn came in the same moment
                self._under_way -= 1
                self._next()
            raise

    def _next(self) -> None:
        while self._waiting and self._under_way < self.most:
            client = next(iter(self._waiting))
            line = self._waiting.pop(client)
            if not (first := line.popleft()).done():  # one that was cancelled is done
                self._under_way += 1
                first.set_result(None)
            if line:
                self._waiting[client] = line  # behind all other clients

    def _learn(self, times: float) -> None:
        """times: how much longer than its work a frame took."""
        self._round.append(times)
        if len(self._round) < self.most:
            return
        if sum(self._round) > _BUSY * len(self._round):
            self._most = max(1.0, self._most * _LESS)
            self._slow_start = False
        elif self._short:
            self._most += self._most if self._slow_start else 1.0
        self._round, self._short = [], False


class ConcurrencySlot:
    """One frame under way. worked: the seconds that were spent on it and not on waiting; 0 where it failed."""

    __slots__ = ("worked",)

    def __init__(self) -> None:
        self.worked = 0.0
