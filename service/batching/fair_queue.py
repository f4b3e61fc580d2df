"""Fair queueing between the clients of one priority: by work units between clients, by deadline within a client."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from itertools import count
from math import inf
from operator import attrgetter
from typing import Generic, TypeVar

from service.batching.types import WorkItem

CREDIT = 16
"""Units of work by which an arriving client may be served ahead of the clients that have been waiting."""
_EARNED = 4
"""Units of credit for each unit served to a flooding client. It bounds everybody's wait, however many clients come."""
_MAX_CREDIT = 16 * CREDIT
"""The credit of all clients together."""
_MAX_REMEMBERED = 1_024
"""The number of clients that are remembered after their last item."""

E = TypeVar("E", bound=WorkItem)
_rank = attrgetter("rank")
_turn = attrgetter("turn")


class Backlog:
    """The work units of each client that are queued or reserved. `total` is their sum."""

    def __init__(self) -> None:
        self.total = 0
        self._units: dict[str, int] = {}
        self._clients: dict[int, int] = {}  # number of clients by their units, for `ahead`

    def of(self, client: str) -> int:
        """The units of one client."""
        return self._units.get(client, 0)

    def change(self, client: str, units: int) -> None:
        """Add to the units of a client; a negative number subtracts. A client with no units is forgotten."""
        before = self._units.get(client, 0)
        after = before + units
        if before:
            self._clients[before] -= 1
            if not self._clients[before]:
                del self._clients[before]
        if after:
            self._clients[after] = self._clients.get(after, 0) + 1
            self._units[client] = after
        elif before:
            del self._units[client]
        self.total += units

    def ahead(self, units: int, client: str) -> int:
        """The units that run until `units` more of `client` have run, these included.

        While two clients wait, they are served equally. So each other client runs at most as much meanwhile as this
        one, however large its backlog is. Credit beside a flood is not counted: `SafetyMargin` learns what it delays.
        """
        own = self.of(client) + units
        # Hundreds of clients have only a few different amounts, this client's own among them.
        return units + sum(min(amount, own) * clients for amount, clients in self._clients.items())


@dataclass(slots=True, eq=False)
class _Client(Generic[E]):
    """A client with waiting entries.

    start: the virtual time at which its next entry starts. credit: the rest of the units by which it arrived ahead.
    served: units it got beyond its credit. turn: the virtual time at which its next entry finishes, and a tie-breaker.
    """

    name: str
    start: int
    credit: int
    served: int = 0
    entries: list[E] = field(default_factory=list)
    turn: tuple[int, int] | None = None


class FairQueue(Generic[E]):
    """Self-clocked fair queueing (Golestani 1994): the next client is the one whose next entry finishes first in
    virtual time.

    Virtual time is the number of work units that every client in the queue has been served since it arrived. An entry
    is charged before it runs, so a client with large entries waits longer for each of them (divisible ones come unit
    by unit), and a client with nothing left owes nothing and can be forgotten: memory is bounded by the waiting
    entries. Both orders are sorted lists, so that an entry in the middle can be removed at once. At the few hundred
    entries that wait here, inserting into a list is cheaper than any tree.

    A client floods the queue once it has been served more than CREDIT units while it nearly always had something
    waiting: it was never away while others were served CREDIT units. The units that it gets earn credit for the others:
    a client that arrives starts up to CREDIT units before the present, so that its occasional image does not alternate
    with the items of the flood. Where no client floods, and beyond that credit, the units of two waiting clients never
    differ by more than their largest entry.
    """

    def __init__(self) -> None:
        """units, items: the waiting work. backlog: the same with the reservations, see WorkQueue.reserve."""
        self.units = 0
        self.items = 0
        self.backlog = Backlog()
        self._now = 0
        self._credit = 0
        self._left: dict[
            str, tuple[int, int]
        ] = {}  # start and served of clients with nothing waiting, first left first
        self._ticks = count()
        self._clients: dict[str, _Client[E]] = {}
        self._turns: list[_Client[E]] = []

    @property
    def head(self) -> E:
        """The next entry to run. The queue must not be empty."""
        return self._turns[0].entries[0]

    @property
    def floods(self) -> bool:
        """True if the next entry is one of a client that floods the queue."""
        return bool(self._turns) and self._turns[0].served > CREDIT

    @property
    def oldest(self) -> float:
        """The arrival time of the entry that has waited longest; infinity if none waits. Scans all entries."""
        return min((e.arrived for client in self._turns for e in client.entries), default=inf)

    def push(self, entry: E) -> None:
        """Add an entry after those of its client that have the same or an earlier deadline."""
        client = self._clients.get(entry.client)
        if client is None:
            left, served = self._left.pop(entry.client, (0, 0))
            start = max(self._now - min(CREDIT, self._credit), left)
            client = self._clients[entry.client] = _Client(entry.client, start, self._now - start)
            client.served = served if left > self._now - CREDIT else 0
            self._credit -= client.credit
        entry.rank = (entry.deadline, next(self._ticks))
        insort(client.entries, entry, key=_rank)
        self._count(entry.client, entry.units, 1)
        if client.entries[0] is entry:
            self._reorder(client)

    @property
    def alone(self) -> bool:
        """True if at most one client waits."""
        return len(self._turns) <= 1

    def take(self, units: int) -> E:
        """Subtract units from the head, and remove it if these were its last. Charges its client, returns the head.

        The queue must not be empty.
        """
        client = self._turns[0]
        entry = client.entries[0]
        paid = min(units, client.credit)
        client.credit -= paid
        client.served += units - paid
        if client.served > CREDIT:
            self._credit = min(self._credit + _EARNED * (units - paid), _MAX_CREDIT)
        client.start += units
        self._now = max(self._now, client.start)
        entry.units -= units
        self._count(entry.client, -units, 0 if entry.units else -1)
        if not entry.units:
            del client.entries[0]
        self._reorder(client)
        return entry

    def remove(self, entry: E) -> bool:
        """Remove an entry at any position, without charge. Returns False if it does not wait here."""
        client = self._clients.get(entry.client)
        if client is None:
            return False
        index = bisect_left(client.entries, entry.rank, key=_rank)
        if index == len(client.entries) or client.entries[index] is not entry:
            return False
        del client.entries[index]
        self._count(entry.client, -entry.units, -1)
        if index == 0:
            self._reorder(client)
        return True

    def _count(self, client: str, units: int, items: int) -> None:
        self.units += units
        self.items += items
        self.backlog.change(client, units)

    def _reorder(self, client: _Client[E]) -> None:
        """Move a client to the position of its next entry; remove it if it has none."""
        if client.turn is not None:
            del self._turns[bisect_left(self._turns, client.turn, key=_turn)]
        if client.entries:
            client.turn = (client.start + client.entries[0].least, next(self._ticks))
            insort(self._turns, client, key=_turn)
        else:
            del self._clients[client.name]
            self._leave(client)

    def _leave(self, client: _Client[E]) -> None:
        """Return a client's credit to the others, and remember what it got in case it comes back soon."""
        self._credit += client.credit
        self._left[client.name] = client.start, client.served
        longest = next(iter(self._left))
        if len(self._left) > _MAX_REMEMBERED or self._left[longest][0] <= self._now - CREDIT:
            del self._left[longest]
