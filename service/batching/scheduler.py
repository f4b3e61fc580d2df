"""Forms batches from the waiting requests when an idle worker takes work.

One lock protects the waiting and the running work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic

from service.batching.fair_queue import E
from service.batching.queue_admission import QueueAdmission
from service.batching.types import ClosedError, Forecast, Priority, Reservation, Stats
from service.batching.work_queue import WorkQueue

_HANG_FACTOR = 5.0
"""A batch that takes this many times as long as expected has hung, if it also takes longer than `hang_after`."""


@dataclass(frozen=True, slots=True)
class BatchingLimits:
    """How work is gathered and bounded.

    max_batch, max_queue: work units. max_delay: seconds that a worker waits for a batch to fill up. batch_sizes: those
    with a service time of their own. hang_after: seconds after which a batch may be reported as hung.
    Raises ValueError for limits that make no sense.
    """

    max_batch: int
    max_delay: float
    max_queue: int
    workers: int
    batch_sizes: tuple[int, ...]
    hang_after: float

    def __post_init__(self) -> None:
        if min(self.max_batch, self.max_queue, self.workers) < 1:
            raise ValueError("max_batch, max_queue and workers must be at least 1")
        if self.max_delay < 0 or self.hang_after <= 0:
            raise ValueError("max_delay must not be negative and hang_after must be positive")


@dataclass(frozen=True, slots=True)
class _Running:
    """A batch that a worker runs. since: its start. expected: the seconds it should take."""

    items: int
    since: float
    expected: float

    def remaining(self, now: float) -> float:
        """Seconds until it is expected to end.

        An overdue batch is assumed to need as long again as it is already overdue.
        """
        return abs(self.expected - (now - self.since))


class Scheduler(Generic[E]):
    """Hands waiting work to idle workers. All methods may be called from any thread; only `take` blocks."""

    def __init__(self, name: str, limits: BatchingLimits, clock: Callable[[], float]) -> None:
        self._name = name
        self._limits = limits
        self._clock = clock
        self._queue = WorkQueue[E](limits.max_queue)
        self._admission = QueueAdmission(name, self._queue, limits.batch_sizes, limits.max_batch, limits.max_delay)
        self._running: dict[int, _Running] = {}  # by worker
        self._started: set[int] = set()  # workers that `missing` returned and that have not exited from `take`
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)  # there is work for an idle worker, or it should stop
        self._accepting = False
        self._stopped = False

    def reshape(self, max_batch: int, batch_sizes: Sequence[int], workers: int) -> None:
        """Change the batch size and the number of workers from now on, and discard the learnt service times.

        Workers with index >= `workers` exit at their next `take`. Raises ValueError as BatchingLimits does.
        """
        with self._lock:
            limits = replace(self._limits, max_batch=max_batch, batch_sizes=tuple(batch_sizes), workers=workers)
            self._admission.reshape(batch_sizes, max_batch)
            self._limits = limits
            self._work.notify_all()  # some workers may have to exit, and the waiting work may fill a batch now

    def missing(self) -> list[int]:
        """The numbers of the workers to be started. Each is returned once, and counts as started from then on."""
        with self._lock:
            numbers = [] if self._stopped else sorted(set(range(self._limits.workers)) - self._started)
            self._started.update(numbers)
            return numbers

    def admit(self, units: int, priority: Priority, client: str, deadline: float) -> Forecast:
        """Predict when this many units would be done, or refuse them as `offer` would.

        Raises ClosedError, DeadlineExceededError or OverloadedError.
        """
        with self._lock:
            self._test_open()
            now = self._clock()
            busy = self._busy(now)
            self._admission.test(units, priority, client, deadline, now, busy)
            return self._forecast(units, priority, client, busy)

    def reserve(self, units: int, priority: Priority, client: str) -> Reservation:
        """Count announced work as waiting from now on."""
        with self._lock:
            self._queue.reserve(units, priority, client)
        return Reservation(units, priority, client)

    def release(self, reservation: Reservation) -> None:
        """Give up the rest of a reservation."""
        with self._lock:
            self._use(reservation, reservation.units)

    def offer(self, entries: Sequence[E], *, admitted: bool, reservation: Reservation | None = None) -> None:
        """Queue entries, all or none. Those `admitted` or reserved are refused only when closed or past their deadline.

        They share their priority, client and deadline. Raises as `admit` does.
        """
        first = entries[0]
        units = sum(entry.units for entry in entries)
        with self._lock:
            self._test_open()
            now = self._clock()
            busy = self._busy(now)
            if reservation is not None:
                self._use(reservation, units)
            if admitted or reservation is not None:
                self._admission.test_deadline(first.deadline, now)
            else:
                self._admission.test(units, first.priority, first.client, first.deadline, now, busy)
            self._admission.promise(entries, units, now, busy)
            for entry in entries:
                self._queue.push(entry)
            self._work.notify()

    def withdraw(self, entries: Sequence[E]) -> None:
        """Remove the entries that are still queued; nobody awaits their results."""
        with self._lock:
            now = self._clock()
            for entry in entries:
                self._queue.remove(entry)
                if entry.deadline <= now:
                    self._admission.missed(entry)

    def take(self, worker: int) -> tuple[list[E], list[E]] | None:
        """Block until there is work for `worker`. Returns a batch to run and the expired entries, or None to end.

        The waiting work is divided among the idle workers, so that the crops of one frame use all of them.
        """
        with self._lock:
            while not self._stopped and worker < self._limits.workers:
                now = self._clock()
                units = self._queue.units
                delay = self._delay(units, now)
                if delay == 0.0:
                    share = -(-units // self._idle())
                    limit = self._admission.time.short_batch(min(self._limits.max_batch, share))
                    batch, expired = self._queue.pop(limit, now)
                    if batch:
                        self._begin(worker, batch, now)
                    if self._queue.units:
                        self._work.notify()  # the next idle worker takes its share and notifies another
                    return batch, expired
                self._work.wait(delay)
            self._started.discard(worker)
        return None

    def begin(self, worker: int, entries: Sequence[E]) -> None:
        """Record that a worker starts to run these entries of the batch that it took."""
        with self._lock:
            self._begin(worker, entries, self._clock())

    def ran(self, entries: Sequence[E], seconds: float) -> None:
        """Record that these entries ran as one batch in `seconds`."""
        with self._lock:
            self._admission.ran(entries, seconds)

    def end(self, worker: int) -> None:
        """Record that a worker is idle."""
        with self._lock:
            self._running.pop(worker, None)

    def predict(self, units: int, priority: Priority, client: str) -> Forecast:
        """Predict when `units` of work would be done if they were submitted now."""
        with self._lock:
            return self._forecast(units, priority, client, self._busy(self._clock()))

    def accept(self) -> None:
        """Accept work from now on."""
        with self._lock:
            self._accepting = True

    def refuse(self) -> None:
        """Accept no more work. Waiting work is still served, without delay."""
        with self._lock:
            self._accepting = False
            self._work.notify_all()

    def stop(self) -> None:
        """Tell all workers to exit. Waiting work stays in the queue."""
        with self._lock:
            self._accepting = False
            self._stopped = True
            self._work.notify_all()

    def hung(self) -> str | None:
        """A sentence about a batch that runs much longer than expected, or None if there is none."""
        with self._lock:
            now = self._clock()
            for worker, batch in self._running.items():
                if now - batch.since > max(self._limits.hang_after, _HANG_FACTOR * batch.expected):
                    took = f"{now - batch.since:.1f} s, expected {batch.expected:.3f} s"
                    return f"worker {worker} of {self._name} has been running a batch of {batch.items} for {took}"
        return None

    def stats(self, restarts: int) -> Stats:
        """The waiting and running work now; `restarts` is passed through."""
        with self._lock:
            return Stats(
                waiting_items=self._queue.items,
                waiting_units=self._queue.units,
                running_batches=len(self._running),
                running_items=sum(batch.items for batch in self._running.values()),
                restarts=restarts,
            )

    # The methods below are called with the lock held.

    def _test_open(self) -> None:
        if not self._accepting:
            raise ClosedError(f"{self._name} accepts no work: it is not started, or closing")

    def _use(self, reservation: Reservation, units: int) -> None:
        used = min(reservation.units, units)
        reservation.units -= used
        self._queue.reserve(-used, reservation.priority, reservation.client)

    def _forecast(self, units: int, priority: Priority, client: str, busy: Sequence[float]) -> Forecast:
        done = self._admission.wait(units, priority, client, busy)
        return Forecast(done, self._admission.time.until_done(units, self._limits.max_batch, (0.0,)))

    def _busy(self, now: float) -> list[float]:
        remaining = [batch.remaining(now) for worker, batch in self._running.items() if worker < self._limits.workers]
        return [0.0] * self._idle() + remaining

    def _idle(self) -> int:
        """The number of idle workers, not counting those that exit after a `reshape`."""
        return self._limits.workers - sum(worker < self._limits.workers for worker in self._running)

    def _delay(self, units: int, now: float) -> float | None:
        """Seconds until a batch should start; None if nothing waits."""
        if not units:
            return None
        if not self._limits.max_delay or units >= self._limits.max_batch or not self._accepting:
            return 0.0
        return max(0.0, self._queue.oldest + self._limits.max_delay - now)

    def _begin(self, worker: int, entries: Sequence[E], now: float) -> None:
        expected = self._admission.time.batch(sum(entry.units for entry in entries))
        self._running[worker] = _Running(len(entries), now, expected)
