"""The waiting work, its order and its bounds: a pure data structure without threads or a clock."""

from __future__ import annotations

from math import inf
from typing import Generic

from service.batching.fair_queue import CREDIT, E, FairQueue
from service.batching.types import Priority

WEIGHTS = {Priority.LIVE: 8, Priority.STILL: 4, Priority.BULK: 1}
"""The share of the work units that each priority gets while all of them have work waiting."""

_STRIDES = {priority: max(WEIGHTS.values()) // weight for priority, weight in WEIGHTS.items()}
"""The virtual time of one unit. Integers, so that it stays exact however long the queue runs."""


class WorkQueue(Generic[E]):
    """Entries in the order in which they should run.

    Fair by weight between priorities, by equal work units between the clients of a priority, and by earliest deadline
    within a client. No waiting priority and no waiting client is starved.

    A client that floods the queue (see FairQueue) with live work has the weight of stills at most while a still of
    another waits, and a still that arrives meanwhile starts up to CREDIT units ahead, as a frame does.
    """

    def __init__(self, max_units: int) -> None:
        """max_units: the bound that `excess` applies; `push` itself refuses nothing.

        `units` and `items` count the waiting work; `load` is `units` plus the reserved units.
        """
        self.max_units = max_units
        self.units = 0
        self.items = 0
        self.load = 0
        self._queues: dict[Priority, FairQueue[E]] = {priority: FairQueue() for priority in Priority}
        self._starts = dict.fromkeys(Priority, 0)  # of each priority's next entry, in virtual time: see FairQueue
        self._now = 0

    @property
    def oldest(self) -> float:
        """The arrival time of the entry that has waited longest; infinity if none waits. Scans all entries."""
        return min(queue.oldest for queue in self._queues.values())

    def push(self, entry: E) -> None:
        """Add an entry."""
        queue = self._queues[entry.priority]
        if not queue.units:
            credit = CREDIT * _STRIDES[entry.priority] if entry.priority is Priority.STILL and self._live_flood else 0
            self._starts[entry.priority] = max(self._starts[entry.priority], self._now - credit)
        queue.push(entry)
        self._count(entry.units, 1)

    def pop(self, limit: int, now: float) -> tuple[list[E], list[E]]:
        """Remove the next entries, at most `limit` units in all, and any expired entries before them.

        Returns both lists. Of a divisible entry the batch has a part, if the rest does not fit or is not due yet. Any
        other entry of more than `limit` units comes alone. An entry that does not fit keeps its place: if smaller
        entries overtook it, large ones would wait forever.
        """
        taken: dict[E, int] = {}
        expired: list[E] = []
        while limit > 0 and (priority := self._next()) is not None:
            queue = self._queues[priority]
            entry = queue.head
            if entry.deadline <= now:
                self.remove(entry)
                expired.append(entry)
                continue
            units = entry.least
            if taken and units > limit:
                break
            if units < entry.units and queue.alone and queue.units == self.units:
                units = min(entry.units, limit)  # no other client waits for its turn after each unit
            start = self._starts[priority] = self._starts[priority] + units * self._stride(priority)
            self._now = max(self._now, start)
            taken[queue.take(units)] = taken.get(entry, 0) + units
            self._count(-units, 0 if entry.units else -1)
            limit -= units
        return [_part(entry, units) for entry, units in taken.items()], expired

    def remove(self, entry: E) -> bool:
        """Remove an entry that need not run any more. Returns False if it does not wait."""
        waited = self._queues[entry.priority].remove(entry)
        if waited:
            self._count(-entry.units, -1)
        return waited

    def reserve(self, units: int, priority: Priority, client: str) -> None:
        """Count announced work as waiting. A negative number gives the reservation up, before the work is pushed."""
        self._queues[priority].backlog.change(client, units)
        self.load += units

    def excess(self, units: int, client: str) -> int:
        """The units that have to leave before `units` more of `client` may enter; 0 if they may enter now.

        A client's backlog may be at most as large as the remaining free space (the dynamic thresholds of Choudhury and
        Hahne, 1998): one flooding client gets half of the queue, two get a third each, and a new client finds room. An
        empty queue takes anything, as waiting would never help a request that is larger than the queue.
        """
        if not self.load or 2 * (self.load + units) <= self.max_units:
            return 0  # the usual case; this client's backlog need not be looked up, as it cannot exceed the load
        held = sum(queue.backlog.of(client) for queue in self._queues.values())
        return max(0, held + units - (self.max_units - self.load - units))

    def ahead(self, units: int, priority: Priority, client: str) -> int:
        """The units that run until `units` more of `client` have run, these included, if no more work arrives.

        Another priority runs at most its share by weight meanwhile, however much of it waits.
        """
        queue = self._queues[priority]
        own = queue.backlog.ahead(units, client)
        if queue.backlog.total == self.load:
            return own  # the usual case: no work of another priority
        return own + sum(
            min(queue.backlog.total, -(-own * WEIGHTS[other] // WEIGHTS[priority]))
            for other, queue in self._queues.items()
            if other is not priority
        )

    def _count(self, units: int, items: int) -> None:
        self.units += units
        self.load += units
        self.items += items

    @property
    def _live_flood(self) -> bool:
        return self._queues[Priority.LIVE].floods

    def _stride(self, priority: Priority) -> int:
        stills = self._queues[Priority.STILL]
        if priority is Priority.LIVE and self._live_flood and stills.units and not stills.floods:
            return _STRIDES[Priority.STILL]
        return _STRIDES[priority]

    def _next(self) -> Priority | None:
        """The priority whose next entry finishes first in virtual time; the most urgent one of equals."""
        first, soonest = None, inf
        for priority, queue in self._queues.items():
            if queue.units:
                finish = self._starts[priority] + queue.head.least * self._stride(priority)
                if finish < soonest:
                    first, soonest = priority, finish
        return first


def _part(entry: E, units: int) -> E:
    """The `units` that were taken of an entry: the entry itself if they were its last."""
    if entry.units:
        return entry.divide(units)
    entry.units = units
    return entry
