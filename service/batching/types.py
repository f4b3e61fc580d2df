"""The values that the batching queue takes and gives, its errors, and the observer that it reports to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from math import inf
from typing import Any, Generic, Literal, NamedTuple, Self, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


class BatchingError(Exception):
    """An error that `Batcher.submit` raises itself. Errors of the user's `run` are passed through unchanged."""

    reason = "failed"
    """One word for a metric's label."""


class OverloadedError(BatchingError):
    """Refused on arrival, and nothing was queued: the queue is full, or the result would miss the deadline.

    retry_after_s: seconds after which the same request would probably be accepted; positive.
    """

    def __init__(self, message: str, *, reason: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after_s = max(retry_after_s, 0.1)


class DeadlineExceededError(BatchingError):
    """The deadline passed before there was a result. An item that was still queued at that time did not run."""

    reason = "expired"


class ClosedError(BatchingError):
    """The batcher is not started, is closing, or was closed before this item ran."""

    reason = "closed"


class RunError(BatchingError):
    """`run` broke its contract: it returned the wrong number of results, or raised something other than `Exception`."""


class Priority(IntEnum):
    """How urgent a result is. A lower number is more urgent."""

    LIVE = 0
    """A frame of a live stream. Its result is outdated within a moment."""
    STILL = 1
    """An image that somebody is waiting for."""
    BULK = 2
    """A video or an archive that is processed in the background."""


@dataclass(slots=True, eq=False)
class WorkItem:
    """One entry of the queue.

    units: its amount of work, at least 1. deadline, arrived: seconds of the caller's clock; infinity for no deadline.
    promised: it is expected to meet its deadline, with little time to spare; set by QueueAdmission. rank: its position
    within its client; set by FairQueue.
    """

    units: int
    priority: Priority
    client: str
    deadline: float
    arrived: float
    promised: bool = field(default=False, init=False)
    rank: tuple[float, int] = field(default=(inf, -1), init=False)

    @property
    def least(self) -> int:
        """The units of it that a batch must take at least: all of them, unless it can be divided."""
        return self.units

    def divide(self, units: int) -> Self:
        """Return the first `units` of its work as an entry of their own. `units` of this entry is the rest already."""
        raise NotImplementedError(f"an entry of {units + self.units} units cannot be divided")


@dataclass(slots=True, eq=False)
class Reservation:
    """Counts as waiting work until that work arrives or `Batcher.release` gives up the rest.

    units: the work that has not arrived yet; changed by the scheduler only.
    """

    units: int
    priority: Priority
    client: str


class Forecast(NamedTuple):
    """A prediction for some work, in seconds: until it would be done, and the part of that in which it runs itself.

    Both are 0 before any batch has run.
    """

    done: float
    run: float


@dataclass(frozen=True, slots=True)
class BatchResult(Generic[R]):
    """The result of one item, and the time that it took.

    queued_s: seconds from the item's arrival to the start of the run that gave its result. ran_s: seconds of that run.
    batch: the number of items in that run, this one included. Of an item that was divided, all three are those of the
    run that ended last. units: the item's units in that run.
    """

    value: R
    queued_s: float
    ran_s: float
    batch: int
    units: int = 1


Outcome = BatchResult[R] | Exception
"""How a run ended for one item, or a part of one."""


@dataclass(frozen=True, slots=True)
class Division(Generic[T, R]):
    """How to divide an item of several units between batches.

    split: (item, units) to the first `units` of it and the rest. join: the results of its parts, in order, to its own.
    """

    split: Callable[[T, int], tuple[T, T]]
    join: Callable[[Sequence[R]], R]


class Submission(Generic[R]):
    """One call of `submit_all`: its future, and the results that have arrived so far.

    Belongs to the event loop; other threads read `done` only. It holds no reference to its items, which refer to it:
    without a reference cycle, images are freed as soon as nothing needs them, not when the garbage collector runs.
    """

    __slots__ = ("_parts", "_results", "future", "missing")

    def __init__(self, future: asyncio.Future[list[BatchResult[R]]], items: int) -> None:
        self.future = future
        self.missing = items
        self._results: dict[int, BatchResult[R]] = {}
        self._parts: dict[int, dict[int, BatchResult[R]]] = {}  # of items that were divided, by their first unit

    @property
    def done(self) -> bool:
        """True if the call has ended, so that its items need not run any more."""
        return self.future.done()

    def settle(self, item: QueuedItem[Any, R], outcome: Outcome[R]) -> None:
        """Record the outcome of an item, or of a part of one. The last result or the first error ends the call; later
        ones are dropped.
        """
        if self.future.done():
            return
        if not isinstance(outcome, BatchResult):
            self.future.set_exception(outcome)
            return
        if item.units < item.total and item.division is not None:
            parts = self._parts.setdefault(item.index, {})
            parts[item.first] = outcome
            if sum(part.units for part in parts.values()) < item.total:
                return
            slowest = max(parts.values(), key=lambda part: part.queued_s + part.ran_s)
            value = item.division.join([parts[first].value for first in sorted(parts)])
            outcome = replace(slowest, value=value)
        self._results[item.index] = outcome
        self.missing -= 1
        if not self.missing:
            self.future.set_result([self._results[i] for i in range(len(self._results))])

    def fail(self, error: Exception) -> None:
        """End the call with an error that concerns all of its items, unless it has ended."""
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(slots=True, eq=False)
class QueuedItem(WorkItem, Generic[T, R]):
    """One submitted item, or the part of one that has not been divided from it. index: its position in the submission.

    division: how to divide it, None if it runs as a whole. first, total: its first unit, and the units of all parts.
    """

    item: T
    submission: Submission[R]
    index: int
    division: Division[T, R] | None = None
    first: int = 0
    total: int = field(init=False)

    def __post_init__(self) -> None:
        self.total = self.units

    @property
    def least(self) -> int:
        return self.units if self.division is None else 1

    def divide(self, units: int) -> Self:
        if self.division is None:
            return super().divide(units)
        item, self.item = self.division.split(self.item, units)
        part = replace(self, units=units, item=item)
        part.total, part.promised = self.total, self.promised
        self.first += units
        return part

    def settle(self, outcome: Outcome[R]) -> None:
        """Record the item's outcome. On the event loop."""
        try:
            self.submission.settle(self, outcome)
        except Exception as error:  # noqa: BLE001 - it becomes this submission's outcome; other items are not affected
            self.submission.fail(error)


@dataclass(frozen=True, slots=True)
class Health:
    """The state of a batcher, with a sentence about it.

    hung: a batch runs much longer than expected; it may still end. dead: a worker has ended and could not be replaced
    yet; the batcher keeps trying.
    """

    state: Literal["ok", "hung", "dead", "closed"]
    detail: str

    @property
    def ok(self) -> bool:
        """True if the batcher serves."""
        return self.state == "ok"


@dataclass(frozen=True, slots=True)
class Stats:
    """The waiting and running work at one moment. restarts: threads replaced since the start."""

    waiting_items: int
    waiting_units: int
    running_batches: int
    running_items: int
    restarts: int


class BatchObserver:
    """Receives the events of a batcher. The methods do nothing; override those of the events to count.

    `name` is the batcher's. Methods must be quick and thread-safe. An exception from one is logged and affects no item.

    Called without any lock held: `rejected`, `cancelled`, `expired` and `failed` on the event loop's thread, the others
    on worker threads. Each accepted item is reported exactly once by `cancelled`, `expired` or `failed`, or by none of
    them if it got its result.
    """

    def batch_started(self, name: str, items: int, units: int) -> None:
        """A worker took a batch."""

    def batch_finished(self, name: str, items: int, seconds: float) -> None:
        """A batch has run, including all retries, in `seconds`. Its results are on their way to the event loop."""

    def waited(self, name: str, seconds: float) -> None:
        """An item's batch started `seconds` after the item's arrival."""

    def rejected(self, name: str, reason: str) -> None:
        """A submission was refused on arrival: `full`, `late`, `expired` or `closed`."""

    def cancelled(self, name: str) -> None:
        """An item's caller was cancelled, or another item of the same call failed."""

    def expired(self, name: str) -> None:
        """An item's deadline passed before its result came."""

    def failed(self, name: str) -> None:
        """An item ended with an error, raised by `run` or because the batcher closed."""

    def restarted(self, name: str) -> None:
        """A worker's thread was replaced."""


class GuardedObserver(BatchObserver):
    """Forwards every event to another observer. An exception from it is logged, once per method, and goes no further:
    no item is lost because it could not be counted.
    """

    def __init__(self, observer: BatchObserver) -> None:
        for method in (name for name in vars(BatchObserver) if not name.startswith("_")):
            setattr(self, method, _guarded(getattr(observer, method)))

    def ended(self, name: str, error: BaseException, items: int) -> None:
        """Report how a call ended, once for each item without a result."""
        match error:
            case DeadlineExceededError():
                report = [self.expired] * items
            case ClosedError():
                report = [self.failed] * items
            case asyncio.CancelledError():
                report = [self.cancelled] * items
            case _:
                report = [self.failed] + [self.cancelled] * (items - 1)
        for call in report:
            call(name)


def _guarded(method: Callable[..., None]) -> Callable[..., None]:
    logged = False

    def call(*arguments: Any) -> None:
        nonlocal logged
        try:
            method(*arguments)
        except Exception:  # it must not cost an item; the first one is logged
            if not logged:
                logged = True
                logger.exception("an observer failed; it goes on to be called, and this is not logged again")

    return call
