"""Who may wait: the queue's bounds, and what cannot be done in time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from typing import Generic

from service.batching.errors import DeadlineExceededError, OverloadedError
from service.batching.fair_queue import E, Priority
from service.batching.margin import SafetyMargin
from service.batching.prediction import ServiceTime
from service.batching.queue import WorkQueue


class QueueAdmission(Generic[E]):
    """Refuses on arrival what could not be served in time, from what waits and how long batches take.

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
        """What runs the batches is another now: what was learnt of their time says nothing any more."""
        self.time = ServiceTime(batch_sizes)
        self._max_batch = max_batch

    def test(
        self, units: int, priority: Priority, client: str, deadline: float, now: float, busy: Sequence[float]
    ) -> None:
        """Raise DeadlineExceededError or OverloadedError where so much work of a client must not wait."""
        self.test_deadline(deadline, now)
        queue = self._queue
        # An idle worker takes anything: refusing would gain nothing, and a wrong prediction would never be righted.
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
        patience = (deadline - now) / self._margins[priority].factor
        wait = self.wait(units, priority, client, busy, enough=patience)
        if wait > patience:
            raise OverloadedError(
                f"{self._name} would need {wait:.3f} s, the deadline is in {deadline - now:.3f} s",
                reason="late",
                retry_after_s=wait - patience,
            )

    def test_deadline(self, deadline: float, now: float) -> None:
        """Raise DeadlineExceededError where a deadline has passed."""
        if deadline <= now:
            raise DeadlineExceededError(f"the deadline had passed before {self._name} was asked")

    def promise(self, entries: Sequence[E], units: int, now: float, busy: Sequence[float]) -> None:
        """Note of entries about to be queued, which share all but their items, whether their outcome teaches anything.

        It does where they should be in time, but with less than half of it to spare.
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
        """Seconds until so much work of a client would be done; 0 before anything has run.

        Where all that waits is done within `enough` seconds, these: they are an upper bound and cost nothing to know,
        while the exact answer looks at every client.
        """
        if enough > 0 and (bound := self._until_done(self._queue.load + units, busy)) <= enough:
            return bound
        return self._until_done(self._queue.ahead(units, priority, client), busy)

    def ran(self, entries: Iterable[E], seconds: float) -> None:
        """Learn that these took so long as one batch."""
        self.time.observe(sum(entry.units for entry in entries), seconds)
        for priority in {entry.priority for entry in entries if entry.promised}:
            self._margins[priority].learn()

    def missed(self, entry: E) -> None:
        """Learn that an entry had no result by its deadline."""
        if entry.promised:
            self._margins[entry.priority].miss()

    def _until_done(self, units: int, busy: Sequence[float]) -> float:
        if not self.time.known:
            return 0.0
        return self._max_delay + self.time.until_done(units, self._max_batch, busy)
