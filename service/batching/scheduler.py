"""Between the event loop and the workers: one lock around what waits and what runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic

from service.batching.admission import QueueAdmission
from service.batching.errors import ClosedError
from service.batching.fair_queue import E, Priority
from service.batching.health import Stats
from service.batching.queue import WorkQueue
from service.batching.reservation import Forecast, Reservation

_HANG = 5.0
"""A batch that takes this many times as long as expected hangs, if it also takes longer than `hang_after`."""


@dataclass(frozen=True, slots=True)
class BatchingLimits:
    """How work is gathered and bounded.

    max_batch, max_queue: work units. max_delay: seconds that a worker waits for a batch to fill up. rungs: the batch
    sizes that take distinct time. hang_after: seconds after which a batch may be said to hang.
    Raises ValueError where they make no sense.
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
    """A batch that a worker runs. since: when it began. expected: the seconds it should take."""

    items: int
    since: float
    expected: float

    def remaining(self, now: float) -> float:
        """Seconds until it is expected to end; one that is overdue is given as long again as it is late."""
        return abs(self.expected - (now - self.since))


class Scheduler(Generic[E]):
    """Hands what waits to idle workers. All methods may be called from any thread; only `take` blocks."""

    def __init__(self, name: str, limits: BatchingLimits, clock: Callable[[], float]) -> None:
        self._name = name
        self._limits = limits
        self._clock = clock
        self._queue = WorkQueue[E](limits.max_queue)
        self._admission = QueueAdmission(name, self._queue, limits.batch_sizes, limits.max_batch, limits.max_delay)
        self._running: dict[int, _Running] = {}  # by worker
        self._serving: set[int] = set()  # who has been called for and not been sent away
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)  # there is some for an idle worker, or it should stop
        self._accepting = False
        self._stopped = False

    def reshape(self, max_batch: int, batch_sizes: Sequence[int], workers: int) -> None:
        """From now on gather so much into a batch, for so many workers, and learn anew how long batches take.

        Workers whose numbers are too high are sent away when they come for more. Raises ValueError as Limits does.
        """
        with self._lock:
            limits = replace(self._limits, max_batch=max_batch, batch_sizes=tuple(batch_sizes), workers=workers)
            self._admission.reshape(batch_sizes, max_batch)
            self._limits = limits
            self._work.notify_all()  # some have to go, and what waits may be enough for a batch now

    def missing(self) -> list[int]:
        """The numbers of the workers to be started, each told once: from then on they count as serving."""
        with self._lock:
            numbers = [] if self._stopped else sorted(set(range(self._limits.workers)) - self._serving)
            self._serving.update(numbers)
            return numbers

    def admit(self, units: int, priority: Priority, client: str, deadline: float) -> Forecast:
        """When so much work would be done. Raises what `offer` would: ClosedError, DeadlineExceededError or
        OverloadedError.
        """
        with self._lock:
            self._test_open()
            now = self._clock()
            busy = self._busy(now)
            self._admission.test(units, priority, client, deadline, now, busy)
            return self._forecast(units, priority, client, busy)

    def hold(self, units: int, priority: Priority, client: str) -> Reservation:
        """Count work that is on its way as waiting from now on."""
        with self._lock:
            self._queue.hold(units, priority, client)
        return Reservation(units, priority, client)

    def release(self, reservation: Reservation) -> None:
        """What has not come by now will not come."""
        with self._lock:
            self._redeem(reservation, reservation.units)

    def offer(self, entries: Sequence[E], *, admitted: bool, reservation: Reservation | None = None) -> None:
        """Let entries wait, all or none; those `admitted` or with a place are only refused when closed or too late.

        They share their priority, client and deadline. Raises as `admit` does.
        """
        first = entries[0]
        units = sum(entry.units for entry in entries)
        with self._lock:
            self._test_open()
            now = self._clock()
            busy = self._busy(now)
            if reservation is not None:
                self._redeem(reservation, units)
            if admitted or reservation is not None:
                self._admission.test_deadline(first.deadline, now)
            else:
                self._admission.test(units, first.priority, first.client, first.deadline, now, busy)
            self._admission.promise(entries, units, now, busy)
            for entry in entries:
                self._queue.push(entry)
            self._work.notify()

    def withdraw(self, entries: Sequence[E]) -> None:
        """Nobody waits for these any more: take out those that are still in the queue."""
        with self._lock:
            now = self._clock()
            for entry in entries:
                self._queue.remove(entry)
                if entry.deadline <= now:
                    self._admission.missed(entry)

    def take(self, worker: int) -> tuple[list[E], list[E]] | None:
        """Block until there is work for `worker`: a batch to run and entries that expired, or None to leave.

        What waits is shared among the workers that are idle, so that the crops of one frame use all of them.
        """
        with self._lock:
            while not self._stopped and worker < self._limits.workers:
                now = self._clock()
                units = self._queue.units
                hold = self._hold(units, now)
                if hold == 0.0:
                    share = -(-units // self._idle())
                    batch, expired = self._queue.pop(min(self._limits.max_batch, share), now)
                    if batch:
                        self._begin(worker, batch, now)
                    if self._queue.units:
                        self._work.notify()  # the next idle worker takes its share, and passes the rest on
                    return batch, expired
                self._work.wait(hold)
            self._serving.discard(worker)
        return None

    def begin(self, worker: int, entries: Sequence[E]) -> None:
        """A worker starts to run these, of a batch that it had taken before."""
        with self._lock:
            self._begin(worker, entries, self._clock())

    def ran(self, entries: Sequence[E], seconds: float) -> None:
        """Learn that running these as one batch took so long."""
        with self._lock:
            self._admission.ran(entries, seconds)

    def end(self, worker: int) -> None:
        """A worker runs nothing any more."""
        with self._lock:
            self._running.pop(worker, None)

    def predict(self, units: int, priority: Priority, client: str) -> Forecast:
        """When `units` of work would be done if they were submitted now."""
        with self._lock:
            return self._forecast(units, priority, client, self._busy(self._clock()))

    def accept(self) -> None:
        """Accept work from now on."""
        with self._lock:
            self._accepting = True

    def refuse(self) -> None:
        """Accept nothing more; what waits is still served, and at once."""
        with self._lock:
            self._accepting = False
            self._work.notify_all()

    def stop(self) -> None:
        """Let the workers go; what waits stays where it is."""
        with self._lock:
            self._accepting = False
            self._stopped = True
            self._work.notify_all()

    def hung(self) -> str | None:
        """A sentence about a batch that runs longer than it should, or None where all is well."""
        with self._lock:
            now = self._clock()
            for worker, batch in self._running.items():
                if now - batch.since > max(self._limits.hang_after, _HANG * batch.expected):
                    took = f"{now - batch.since:.1f} s, expected {batch.expected:.3f} s"
                    return f"worker {worker} of {self._name} has been running a batch of {batch.items} for {took}"
        return None

    def stats(self, restarts: int) -> Stats:
        """What waits and runs now; `restarts` is passed on."""
        with self._lock:
            return Stats(
                waiting_items=self._queue.items,
                waiting_units=self._queue.units,
                running_batches=len(self._running),
                running_items=sum(batch.items for batch in self._running.values()),
                restarts=restarts,
            )

    # What follows is called with the lock held.

    def _test_open(self) -> None:
        if not self._accepting:
            raise ClosedError(f"{self._name} accepts no work: it is not started, or closing")

    def _redeem(self, reservation: Reservation, units: int) -> None:
        come = min(reservation.units, units)
        reservation.units -= come
        self._queue.hold(-come, reservation.priority, reservation.client)

    def _forecast(self, units: int, priority: Priority, client: str, busy: Sequence[float]) -> Forecast:
        done = self._admission.wait(units, priority, client, busy)
        return Forecast(done, self._admission.time.until_done(units, self._limits.max_batch, (0.0,)))

    def _busy(self, now: float) -> list[float]:
        staying = [batch for worker, batch in self._running.items() if worker < self._limits.workers]
        return [0.0] * self._idle() + [batch.remaining(now) for batch in staying]

    def _idle(self) -> int:
        """How many workers run nothing, of those that stay."""
        return self._limits.workers - sum(worker < self._limits.workers for worker in self._running)

    def _hold(self, units: int, now: float) -> float | None:
        """Seconds until a batch should start, None where nothing waits."""
        if not units:
            return None
        if not self._limits.max_delay or units >= self._limits.max_batch or not self._accepting:
            return 0.0
        return max(0.0, self._queue.oldest + self._limits.max_delay - now)

    def _begin(self, worker: int, entries: Sequence[E], now: float) -> None:
        expected = self._admission.time.batch(sum(entry.units for entry in entries))
        self._running[worker] = _Running(len(entries), now, expected)
