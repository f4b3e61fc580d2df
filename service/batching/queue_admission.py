"""Admission to one queue: bounds its length and refuses work that it cannot do by the deadline.

`service.inference.pipeline_admission` decides for a whole pipeline.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from typing import Generic

from service.batching.fair_queue import E
from service.batching.prediction import ServiceTime
from service.batching.types import DeadlineExceededError, OverloadedError, Priority
from service.batching.work_queue import WorkQueue

_INITIAL_FACTOR = 1.5
_MIN_FACTOR = 1.25
_MAX_FACTOR = 4.0
_UP = 1.1
_DOWN = _UP ** (-1 / 300)
"""One batch with a miss outweighs 300 without, so the margin settles where about 1 in 300 is late."""


class SafetyMargin:
    """The factor by which a result may come later than predicted and still be in time.

    Predictions do not include requests that arrive later, which take turns with the waiting ones, nor stalls of the
    machine. The factor rises when accepted work is late, and falls slowly when work with little time to spare is not;
    work with time to spare does not change it. Several misses in a row count once, as one stall delays everything
    that waits.
    """

    def __init__(self) -> None:
        self.factor = _INITIAL_FACTOR
        self._missed = False

    def test(self, name: str, needed: float, left: float) -> None:
        """Raise OverloadedError if work of `name` that needs that many seconds may miss its deadline in `left`."""
        allowed = left / self.factor
        if needed > allowed:
            raise OverloadedError(
                f"{name} would need {needed:.3f} s, the deadline is in {left:.3f} s",
                reason="late",
                retry_after_s=needed - allowed,
            )

    def miss(self) -> None:
        """Record that work that was predicted to be in time was late."""
        self._missed = True

    def learn(self) -> None:
        """Adjust the factor, after work with little time to spare has run, by the misses since the last such work."""
        self.factor = min(max(self.factor * (_UP if self._missed else _DOWN), _MIN_FACTOR), _MAX_FACTOR)
        self._missed = False


class QueueAdmission(Generic[E]):
    """Refuses work on arrival that could not be done in time, by the waiting work and the time that batches take.

    `busy`, in all methods: for every worker the seconds until it is expected to be free.
    """

    def __init__(
        self, name: str, queue: WorkQueue[E], batch_sizes: Sequence[int], max_batch: int, max_delay: float
    ) -> None:
        self.time = ServiceTime(batch_sizes)
        self._name = name
        self._queue = queue
        self._max_batch = max_batch
        self._max_delay = max_delay
        self._margins = {priority: SafetyMargin() for priority in Priority}

    def reshape(self, batch_sizes: Sequence[int], max_batch: int) -> None:
        """Forget the learnt service times: another runtime runs the batches from now on."""
        self.time = ServiceTime(batch_sizes)
        self._max_batch = max_batch

    def test(
        self, units: int, priority: Priority, client: str, deadline: float, now: float, busy: Sequence[float]
    ) -> None:
        """Raise DeadlineExceededError or OverloadedError if `units` of work of a client must not be queued."""
        self.test_deadline(deadline, now)
        queue = self._queue
        # An idle worker takes anything: refusing would gain nothing, and a wrong prediction would never be corrected.
        if not queue.load and not min(busy):
            return
        if excess := queue.excess(units, client):
            raise OverloadedError(
                f"{self._name} has no room for {units} units of this client: {queue.load} of {queue.max_units} wait",
                reason="full",
                retry_after_s=self._until_done(excess, busy) or 1.0,
            )
        if deadline == inf:
            return
        margin, left = self._margins[priority], deadline - now
        margin.test(self._name, self.wait(units, priority, client, busy, enough=left / margin.factor), left)

    def test_deadline(self, deadline: float, now: float) -> None:
        """Raise DeadlineExceededError if a deadline has passed."""
        if deadline <= now:
            raise DeadlineExceededError(f"the deadline had passed before {self._name} was asked")

    def promise(self, entries: Sequence[E], units: int, now: float, busy: Sequence[float]) -> None:
        """Mark entries that are about to be queued as promised if the safety margin can learn from their outcome.

        It can if they should be in time, but with less than half of it to spare. They share all but their items.
        """
        first = entries[0]
        if first.deadline == inf:
            return
        time_left = first.deadline - now
        ample = time_left / (2 * self._margins[first.priority].factor)
        if ample < self.wait(units, first.priority, first.client, busy, enough=ample) <= time_left:
            for entry in entries:
                entry.promised = True

    def wait(
        self, units: int, priority: Priority, client: str, busy: Sequence[float], *, enough: float = -inf
    ) -> float:
        """Seconds until `units` of work of a client would be done; 0 before anything has run.

        If all waiting work is done within `enough` seconds, that time is returned: an upper bound that costs nothing,
        while the exact answer goes through all clients.
        """
        if enough > 0 and (bound := self._until_done(self._queue.load + units, busy)) <= enough:
            return bound
        return self._until_done(self._queue.ahead(units, priority, client), busy)

    def ran(self, entries: Iterable[E], seconds: float) -> None:
        """Record that these entries ran as one batch in `seconds`."""
        self.time.observe(sum(entry.units for entry in entries), seconds)
        for priority in {entry.priority for entry in entries if entry.promised}:
            self._margins[priority].learn()

    def missed(self, entry: E) -> None:
        """Record that an entry had no result by its deadline."""
        if entry.promised:
            self._margins[entry.priority].miss()

    def _until_done(self, units: int, busy: Sequence[float]) -> float:
        if not self.time.known:
            return 0.0
        return self._max_delay + self.time.until_done(units, self._max_batch, busy)
