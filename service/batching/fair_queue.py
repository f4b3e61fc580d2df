"""The clients of one priority taking turns: by work units between clients, by deadline within one."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count
from math import inf
from operator import attrgetter
from typing import Generic, TypeVar

from service.batching.backlog import Backlog


class Priority(IntEnum):
    """How soon an answer is worth something. A lower number is more urgent."""

    LIVE = 0
    """A frame of a live stream, stale in a moment."""
    STILL = 1
    """A picture that somebody waits for."""
    BULK = 2
    """A video or an archive that nobody watches."""


@dataclass(slots=True, eq=False)
class WorkItem:
    """One item in the queue.

    units: its work, at least 1. deadline, arrived: seconds of the caller's clock; no deadline is infinity.
    promised: it should meet its deadline, with little time to spare; set by Admission. place: its rank within its
    client; set by Lane.
    """

    units: int
    priority: Priority
    client: str
    deadline: float
    arrived: float
    promised: bool = field(default=False, init=False)
    place: tuple[float, int] = field(default=(inf, -1), init=False)


CREDIT = 16
"""Units by which a client that comes may be ahead of those that have been waiting."""
_EARNED = 4
"""Units of credit for each unit that a flooding client had: nobody waits for ever, however many clients come."""
_MOST_CREDIT = 16 * CREDIT
"""Of all clients together."""
_MOST_REMEMBERED = 1_024
"""Clients that are remembered after their last item."""

E = TypeVar("E", bound=WorkItem)
_place = attrgetter("place")
_turn = attrgetter("turn")


@dataclass(slots=True, eq=False)
class _Client(Generic[E]):
    """A client with something waiting.

    start: the virtual time its next item starts at. credit: what is left of the units that it came ahead by.
    served: units that it had beyond its credit. turn: the virtual time its next item finishes at, and a tie-breaker.
    """

    name: str
    start: int
    credit: int
    served: int = 0
    entries: list[E] = field(default_factory=list)
    turn: tuple[int, int] | None = None


class FairQueue(Generic[E]):
    """Self-clocked fair queueing (Golestani 1994): next is the client whose next item finishes first in virtual time.

    Virtual time is the work units that every client here has had since it came. An item is charged before it runs, so
    a client with fat items waits longer for each, and one that has nothing left owes nothing and can be forgotten:
    memory is bounded by what waits. Both orders are sorted lists, so that an item in the middle can leave at once; at
    the few hundred entries that wait here a list's insertion is cheaper than any tree.

    A client floods once it has had more than CREDIT units while something of it waited all the time. What it gets
    earns credit for the others: one that comes starts up to CREDIT units before the present, so that its occasional
    image does not take turns with every item of the flood. Where nobody floods, and beyond that credit, the units that
    two waiting clients get never differ by more than their fattest item.
    """

    def __init__(self) -> None:
        """units, items: what waits. holdings: that, and what is on its way (see WorkQueue.hold)."""
        self.units = 0
        self.items = 0
        self.backlog = Backlog()
        self._now = 0
        self._credit = 0
        self._left: dict[str, int] = {}  # the starts of clients that have nothing waiting, the first to leave first
        self._ticks = count()
        self._clients: dict[str, _Client[E]] = {}
        self._turns: list[_Client[E]] = []

    @property
    def head(self) -> E:
        """The entry whose turn it is. The lane must not be empty."""
        return self._turns[0].entries[0]

    @property
    def oldest(self) -> float:
        """When the entry that waits longest arrived, infinity where none waits. Looks at every entry."""
        return min((e.arrived for client in self._turns for e in client.entries), default=inf)

    def push(self, entry: E) -> None:
        """Add an entry: behind those of its client that are due no later, before the others."""
        client = self._clients.get(entry.client)
        if client is None:
            start = max(self._now - min(CREDIT, self._credit), self._left.pop(entry.client, 0))
            client = self._clients[entry.client] = _Client(entry.client, start, self._now - start)
            self._credit -= client.credit
        entry.place = (entry.deadline, next(self._ticks))
        insort(client.entries, entry, key=_place)
        self._count(entry, 1)
        if client.entries[0] is entry:
            self._reseat(client)

    def pop(self) -> E:
        """Take the head and charge its client. The lane must not be empty."""
        client = self._turns[0]
        units = client.entries[0].units
        paid = min(units, client.credit)
        client.credit -= paid
        client.served += units - paid
        if client.served > CREDIT:
            self._credit = min(self._credit + _EARNED * (units - paid), _MOST_CREDIT)
        client.start += units
        self._now = max(self._now, client.start)
        return self._drop(client, 0)

    def remove(self, entry: E) -> bool:
        """Take out an entry wherever it stands, at no charge; False where it does not wait here."""
        client = self._clients.get(entry.client)
        if client is None:
            return False
        index = bisect_left(client.entries, entry.place, key=_place)
        if index == len(client.entries) or client.entries[index] is not entry:
            return False
        self._drop(client, index)
        return True

    def _count(self, entry: E, sign: int) -> None:
        self.units += sign * entry.units
        self.items += sign
        self.backlog.change(entry.client, sign * entry.units)

    def _drop(self, client: _Client[E], index: int) -> E:
        entry = client.entries.pop(index)
        self._count(entry, -1)
        if index == 0:
            self._reseat(client)
        return entry

    def _reseat(self, client: _Client[E]) -> None:
        """Put a client where its next item belongs; one that has none leaves."""
        if client.turn is not None:
            del self._turns[bisect_left(self._turns, client.turn, key=_turn)]
        if client.entries:
            client.turn = (client.start + client.entries[0].units, next(self._ticks))
            insort(self._turns, client, key=_turn)
        else:
            del self._clients[client.name]
            self._leave(client)

    def _leave(self, client: _Client[E]) -> None:
        """Remember a client that could come back before it has its credit again, and keep the credit for others."""
        self._credit += client.credit
        self._left[client.name] = client.start
        longest = next(iter(self._left))
        if len(self._left) > _MOST_REMEMBERED or self._left[longest] <= self._now - CREDIT:
            del self._left[longest]
