"""The asyncio interface of the batching queue: submit items, await their results. The scheduler forms the batches."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from types import TracebackType
from typing import Generic, Self

from service.batching.prediction import powers_of_two
from service.batching.scheduler import BatchingLimits, Scheduler
from service.batching.types import (
    BatchingError,
    BatchObserver,
    BatchResult,
    ClosedError,
    DeadlineExceededError,
    Division,
    Forecast,
    GuardedObserver,
    Health,
    Outcome,
    Priority,
    QueuedItem,
    R,
    Reservation,
    RunError,
    Stats,
    Submission,
    T,
)
from service.batching.worker import NICE, LowPriority, Run, Worker
from service.batching.worker_pool import WorkerPool

logger = logging.getLogger(__name__)

_END_S = 0.5
"""How long `close` waits for threads to end. All end at once, except those that run a batch."""
_RETRY_S = 0.1
"""How often a thread that ends retries to report it, if the event loop could not take the message."""


class Batcher(Generic[T, R]):
    """The dynamic batching queue in front of one function that runs batches.

    An idle worker starts at once on any waiting work; while all are busy, work gathers. Every submitted item ends
    exactly once: with its result, with an error, cancelled, or at its deadline. A batcher lives on the event loop that
    `start` ran on, and its methods may be called there only; `predict`, `health` and `stats` from any thread.

        async with Batcher(run, name="detector", max_batch=8) as batcher:
            result = await batcher.submit(item, client="10.0.0.7", deadline=time.monotonic() + 0.5)
    """

    def __init__(
        self,
        run: Run[T, R],
        *,
        name: str,
        cost: Callable[[T], int] = lambda _: 1,
        division: Division[T, R] | None = None,
        max_batch: int = 8,
        max_delay: float = 0.0,
        max_queue: int = 256,
        workers: int = 1,
        batch_sizes: Sequence[int] | None = None,
        hang_after: float = 5.0,
        nice: int = NICE,
        clock: Callable[[], float] = time.monotonic,
        observer: BatchObserver | None = None,
    ) -> None:
        """Make a batcher that does nothing until `start`.

        run: called on worker threads, by `workers` of them at once. cost: an item's work units, at least 1.
        division: how to divide items of several units, so that a batch may take a part of one; None if it may not.
        max_batch, max_queue: in work units. max_delay: seconds that an idle worker waits for a batch to fill up.
        batch_sizes: those with a service time of their own, ascending; powers of two up to max_batch by default.
        hang_after: seconds that a batch may take, and be several times slower than usual, before `health` is bad.
        nice: of the worker threads, 0 to 19, above the process's own.
        clock: in seconds; deadlines are times of this clock.
        Raises ValueError for limits that make no sense.
        """
        sizes = tuple(batch_sizes) if batch_sizes is not None else powers_of_two(max_batch)
        limits = BatchingLimits(max_batch, max_delay, max_queue, workers, sizes, hang_after)
        self.name = name
        self._cost = cost
        self._division = division
        self._clock = clock
        self._observer = GuardedObserver(observer or BatchObserver())
        self._scheduler = scheduler = Scheduler[QueuedItem[T, R]](name, limits, clock)
        low = LowPriority(name, nice)
        self._pool = WorkerPool(
            name,
            scheduler,
            lambda number: Worker(name, number, run, scheduler, self._post, self._on_exit, clock, self._observer, low),
            self._observer,
        )
        self._submissions: set[Submission[R]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def start(self) -> None:
        """Start the workers. Raises RuntimeError if it was started before."""
        if self._loop is not None or self._closed:
            raise RuntimeError(f"{self.name} can be started only once")
        self._loop = asyncio.get_running_loop()
        self._scheduler.accept()
        self._pool.start_missing(self._loop, self._workers_changed)

    def reshape(self, max_batch: int, batch_sizes: Sequence[int], workers: int) -> None:
        """Change the largest batch and the number of workers, for a `run` that takes more or fewer; from any thread.

        A batch that is already gathered keeps its size. A surplus worker ends when its batch is done.
        Raises ValueError for limits that make no sense.
        """
        self._scheduler.reshape(max_batch, batch_sizes, workers)
        if self._loop is not None:
            self._pool.start_missing(self._loop, self._workers_changed)

    async def close(self, drain: float = 10.0) -> None:
        """Refuse new work, finish accepted work within `drain` seconds, and fail the rest. Closing twice is fine.

        A worker that hangs is left behind: its batch ends in the background or never.
        """
        self._closed = True
        self._scheduler.refuse()
        if self._loop is None:
            return
        try:
            if self._submissions:
                await asyncio.wait([submission.future for submission in self._submissions], timeout=drain)
        finally:
            self._fail_all(ClosedError(f"{self.name} was closed before the item was done"))
            self._scheduler.stop()
            self._pool.stop()
        try:
            async with asyncio.timeout(_END_S):
                await self._pool.ended.wait()
        except TimeoutError:
            logger.warning("%s is closed, but a batch of it still runs", self.name)
        else:
            self._pool.join()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def submit(
        self,
        item: T,
        *,
        priority: Priority = Priority.STILL,
        client: str = "",
        deadline: float | None = None,
        admitted: bool = False,
        reservation: Reservation | None = None,
    ) -> BatchResult[R]:
        """Wait for the result of one item.

        client: the capacity is shared fairly between clients. deadline: a time of the clock. admitted: the caller has
        admitted it already, so that it is refused only when the batcher is closed or the deadline has passed.
        reservation: made for it by `reserve`; has the same effect.
        Raises OverloadedError or ClosedError on arrival, DeadlineExceededError at the deadline, and the exception that
        `run` raised or returned for this item. If the caller is cancelled, its item is removed from the queue.
        """
        results = await self.submit_all(
            (item,), priority=priority, client=client, deadline=deadline, admitted=admitted, reservation=reservation
        )
        return results[0]

    async def submit_all(
        self,
        items: Sequence[T],
        *,
        priority: Priority = Priority.STILL,
        client: str = "",
        deadline: float | None = None,
        admitted: bool = False,
        reservation: Reservation | None = None,
    ) -> list[BatchResult[R]]:
        """Wait for the results of several items, in their order. Either all of them are accepted or none.

        Batches may take any part of them. If one fails, its error is raised and the others are cancelled. See `submit`.
        """
        if not items:
            return []
        due = inf if deadline is None else deadline
        queued = self._enqueue(items, priority, client, due, admitted, reservation)
        submission = queued[0].submission
        self._submissions.add(submission)
        timer = None
        if due < inf:
            timer = submission.future.get_loop().call_later(max(0.0, due - self._clock()), self._expire, submission)
        try:
            return await submission.future
        except BaseException as error:
            self._scheduler.withdraw(queued)  # the waiting ones; results of the running ones are ignored
            self._observer.ended(self.name, error, submission.missing)
            raise
        finally:
            self._submissions.discard(submission)
            if timer is not None:
                timer.cancel()
            del queued, submission  # the error's traceback holds this frame, and the submission holds the error

    def admit(
        self, units: int, *, priority: Priority = Priority.STILL, client: str = "", deadline: float | None = None
    ) -> Forecast:
        """Predict when `units` of work would be done, or refuse them as `submit` would; reserves nothing.

        For callers that want to know before they read a request, or before the first of several stages.
        """
        try:
            return self._scheduler.admit(units, priority, client, inf if deadline is None else deadline)
        except BatchingError as refusal:
            self._observer.rejected(self.name, refusal.reason)
            raise

    def reserve(self, units: int, *, priority: Priority = Priority.STILL, client: str = "") -> Reservation:
        """Count announced work as waiting from now on, so that no other caller is promised its turn.

        Pass the reservation to `submit` with the work, and to `release` when no more work will come.
        """
        return self._scheduler.reserve(units, priority, client)

    def release(self, reservation: Reservation) -> None:
        """Give up the rest of a reservation."""
        self._scheduler.release(reservation)

    def predict(self, units: int = 1, *, priority: Priority = Priority.STILL, client: str = "") -> Forecast:
        """Predict when `units` of work would be done if they were submitted now."""
        return self._scheduler.predict(units, priority, client)

    @property
    def health(self) -> Health:
        """The health of the batcher. It recovers by itself when the cause goes away."""
        if self._loop is None or self._closed:
            return Health("closed", f"{self.name} is closed" if self._closed else f"{self.name} is not started")
        if dead := self._pool.dead:
            return Health("dead", f"{dead} of {self._pool.size} workers of {self.name} have ended")
        if hung := self._scheduler.hung():
            return Health("hung", hung)
        return Health("ok", f"{self.name} serves")

    @property
    def started(self) -> bool:
        """True once `start` was called."""
        return self._loop is not None

    @property
    def idle(self) -> bool:
        """True if no caller waits for a result."""
        return not self._submissions

    @property
    def stats(self) -> Stats:
        """The waiting and running work now."""
        return self._scheduler.stats(self._pool.restarts)

    def _enqueue(
        self,
        items: Sequence[T],
        priority: Priority,
        client: str,
        deadline: float,
        admitted: bool,
        reservation: Reservation | None,
    ) -> list[QueuedItem[T, R]]:
        """Queue items, all or none."""
        arrived = self._clock()
        submission: Submission[R] = Submission(asyncio.get_running_loop().create_future(), len(items))
        queued: list[QueuedItem[T, R]] = []
        for index, item in enumerate(items):
            units = self._cost(item)
            if units < 1:
                raise ValueError(f"the cost of an item of {self.name} must be at least 1 unit, not {units}")
            queued.append(
                QueuedItem(units, priority, client, deadline, arrived, item, submission, index, self._division)
            )
        try:
            self._scheduler.offer(queued, admitted=admitted, reservation=reservation)
        except BatchingError as refusal:
            self._observer.rejected(self.name, refusal.reason)
            raise
        return queued

    def _expire(self, submission: Submission[R]) -> None:
        submission.fail(DeadlineExceededError(f"{self.name} had no result by the deadline"))

    def _fail_all(self, error: BatchingError) -> None:
        for submission in self._submissions:
            submission.fail(error)

    def _on_loop(self, callback: Callable[[], None]) -> None:
        """Run a callback on the event loop; called by workers."""
        if self._loop is None:
            raise RuntimeError("a worker runs before start")
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            if not self._loop.is_closed():
                raise
            # A hung worker came back after its event loop had ended; no caller waits any more.

    def _post(self, items: Sequence[QueuedItem[T, R]], outcomes: Sequence[Outcome[R]]) -> None:
        self._on_loop(partial(_deliver, items, outcomes))

    def _on_exit(self, worker: Worker[T, R]) -> None:
        """Report the end of a worker's thread to the event loop; on that thread. Retries until the loop takes it."""
        while True:
            try:
                self._on_loop(partial(self._worker_ended, worker))
            except Exception:  # noqa: BLE001 - most likely there is no memory, for a log line neither
                time.sleep(_RETRY_S)
            else:
                return

    def _worker_ended(self, worker: Worker[T, R]) -> None:
        self._scheduler.end(worker.index)
        if worker.undelivered is None:  # it ended while taking work, so the items that it took are unknown
            self._fail_all(ClosedError(f"a worker of {self.name} failed while it took work"))
        for item in worker.undelivered or ():
            item.submission.fail(RunError(f"a worker of {self.name} failed, its log says why"))
        worker.undelivered = ()
        self._pool.replace(worker, self._workers_changed)

    def _workers_changed(self) -> None:
        """React to a worker that has to pause or was started again. Without any, refuse new items and fail the rest."""
        if self._closed:
            return
        if self._pool.running:
            self._scheduler.accept()
        else:
            self._scheduler.refuse()
            self._fail_all(ClosedError(f"all workers of {self.name} have ended"))


def _deliver(items: Sequence[QueuedItem[T, R]], outcomes: Sequence[Outcome[R]]) -> None:
    """Record the outcomes of a whole batch. On the event loop."""
    for item, outcome in zip(items, outcomes, strict=True):
        item.settle(outcome)
