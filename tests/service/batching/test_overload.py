"""Admission and turns together, in simulated time: three times more work than can be done.

What is accepted is done in time, and hardly any capacity is lost to refusing too much.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from math import inf

import pytest

from service.batching.admission import QueueAdmission
from service.batching.errors import OverloadedError
from service.batching.fair_queue import Priority, WorkItem
from service.batching.queue import WorkQueue

MAX_BATCH = 8
SECONDS = 12.0
Who = Callable[[random.Random], tuple[str, Priority]]


def batch_seconds(units: int) -> float:
    return 0.002 + 0.004 * units


class Shop:
    """Workers, and clients that submit at random times without waiting for answers."""

    def __init__(self, workers: int, who: Who, patience: float) -> None:
        self.capacity = workers * MAX_BATCH / batch_seconds(MAX_BATCH)
        self.in_time = Counter[str]()
        self.missed = Counter[str]()
        self.refused = Counter[str]()
        self._who = who
        self._patience = patience
        self._dice = random.Random(7)  # noqa: S311 (no secret)
        self._queue = WorkQueue[WorkItem](256)
        self._admission = QueueAdmission("x", self._queue, (1, 2, 4, 8), MAX_BATCH, 0.0)
        self._batches: list[list[WorkItem]] = [[] for _ in range(workers)]
        self._ends = [inf] * workers  # when the batch of each is done; infinity where it has none

    def run(self, load: float) -> None:
        """SECONDS of arrivals at `load` times the capacity."""
        now = 0.0
        while now < SECONDS:
            now += self._dice.expovariate(self.capacity * load)
            while (soonest := min(self._ends)) <= now:
                self._finish(self._ends.index(soonest), soonest)
            self._arrive(now)

    def _arrive(self, now: float) -> None:
        client, priority = self._who(self._dice)
        entry = WorkItem(1, priority, client, now + self._patience, now)
        busy = [0.0 if end == inf else end - now for end in self._ends]
        try:
            self._admission.test(1, priority, client, entry.deadline, now, busy)
        except OverloadedError as error:
            self.refused[error.reason] += 1
            return
        self._admission.promise([entry], 1, now, busy)
        self._queue.push(entry)
        for worker, batch in enumerate(self._batches):
            if not batch:
                self._start(worker, now)

    def _start(self, worker: int, now: float) -> None:
        batch, expired = self._queue.pop(MAX_BATCH, now)
        self._batches[worker] = batch
        self._ends[worker] = now + batch_seconds(len(batch)) * self._dice.uniform(0.8, 1.2) if batch else inf
        for entry in expired:
            self._end(entry, now)

    def _finish(self, worker: int, now: float) -> None:
        batch = self._batches[worker]
        self._admission.ran(batch, batch_seconds(len(batch)))
        for entry in batch:
            self._end(entry, now)
        self._start(worker, now)

    def _end(self, entry: WorkItem, now: float) -> None:
        if now <= entry.deadline:
            self.in_time[entry.client] += 1
        else:
            self.missed[entry.client] += 1
            self._admission.missed(entry)


def alone(_: random.Random) -> tuple[str, Priority]:
    return "a", Priority.STILL


def everybody(dice: random.Random) -> tuple[str, Priority]:
    return str(dice.random()), Priority.STILL


def flood(dice: random.Random) -> tuple[str, Priority]:
    return ("flood" if dice.random() < 0.95 else f"small {dice.randrange(5)}"), Priority.STILL


def mixed(dice: random.Random) -> tuple[str, Priority]:
    return "a", dice.choice(list(Priority))


@pytest.mark.parametrize("patience", [0.15, 0.5, 2.0])
@pytest.mark.parametrize(("workers", "who"), [(1, alone), (3, alone), (1, everybody), (1, flood), (1, mixed)])
def test_overload(who: Who, workers: int, patience: float) -> None:
    shop = Shop(workers, who, patience)
    shop.run(load=3.0)
    served, missed = shop.in_time.total(), shop.missed.total()
    assert served > 0.9 * shop.capacity * SECONDS
    assert missed < 0.01 * (served + missed)


def test_small_clients_are_not_hurt_by_a_flood() -> None:
    shop = Shop(1, flood, patience=0.5)
    shop.run(load=3.0)
    offered = 0.05 * 3.0 * shop.capacity * SECONDS
    assert shop.in_time.total() - shop.in_time["flood"] > 0.9 * offered


def test_nothing_is_refused_below_capacity() -> None:
    shop = Shop(2, everybody, patience=0.5)
    shop.run(load=0.8)
    assert not shop.refused
    assert not shop.missed
