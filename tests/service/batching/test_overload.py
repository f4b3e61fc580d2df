"""Admission and fair queueing together, in simulated time, at three times the capacity.

Accepted work is done in time, and hardly any capacity is lost by refusing too much.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from math import inf

import pytest

from service.batching.queue_admission import QueueAdmission
from service.batching.types import OverloadedError, Priority, WorkItem
from service.batching.work_queue import WorkQueue

MAX_BATCH = 8
SECONDS = 12.0
Arrival = Callable[[random.Random], tuple[str, Priority]]


def batch_seconds(units: int) -> float:
    return 0.002 + 0.004 * units


class Simulation:
    """Workers, and clients that submit at random times without waiting for answers."""

    def __init__(self, workers: int, arrival: Arrival, timeout: float) -> None:
        self.capacity = workers * MAX_BATCH / batch_seconds(MAX_BATCH)
        self.in_time = Counter[str]()
        self.missed = Counter[str]()
        self.refused = Counter[str]()
        self._arrival = arrival
        self._timeout = timeout
        self._dice = random.Random(7)  # noqa: S311 (no secret)
        self._queue = WorkQueue[WorkItem](256)
        self._admission = QueueAdmission("x", self._queue, (1, 2, 4, 8), MAX_BATCH, 0.0)
        self._batches: list[list[WorkItem]] = [[] for _ in range(workers)]
        self._ends = [inf] * workers  # the end of each worker's batch; infinity if it has none

    def run(self, load: float) -> None:
        """SECONDS of arrivals at `load` times the capacity."""
        now = 0.0
        while now < SECONDS:
            now += self._dice.expovariate(self.capacity * load)
            while (soonest := min(self._ends)) <= now:
                self._finish(self._ends.index(soonest), soonest)
            self._arrive(now)

    def _arrive(self, now: float) -> None:
        client, priority = self._arrival(self._dice)
        entry = WorkItem(1, priority, client, now + self._timeout, now)
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


@pytest.mark.parametrize("timeout", [0.15, 0.5, 2.0])
@pytest.mark.parametrize(("workers", "arrival"), [(1, alone), (3, alone), (1, everybody), (1, flood), (1, mixed)])
def test_accepted_work_is_in_time_and_capacity_is_used(arrival: Arrival, workers: int, timeout: float) -> None:
    simulation = Simulation(workers, arrival, timeout)
    simulation.run(load=3.0)
    served, missed = simulation.in_time.total(), simulation.missed.total()
    assert served > 0.9 * simulation.capacity * SECONDS
    assert missed < 0.01 * (served + missed)


def test_small_clients_are_not_affected_by_a_flood() -> None:
    simulation = Simulation(1, flood, timeout=0.5)
    simulation.run(load=3.0)
    offered = 0.05 * 3.0 * simulation.capacity * SECONDS
    assert simulation.in_time.total() - simulation.in_time["flood"] > 0.9 * offered


def test_nothing_is_refused_below_capacity() -> None:
    simulation = Simulation(2, everybody, timeout=0.5)
    simulation.run(load=0.8)
    assert not simulation.refused
    assert not simulation.missed
