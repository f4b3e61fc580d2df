"""The asyncio face of the queue: await a result, and let others share the batch."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from types import TracebackType
from typing import Generic, Self

from service.batching.errors import BatchingError, ClosedError, DeadlineExceededError, RunError
from service.batching.fair_queue import Priority
from service.batching.health import Health, Stats
from service.batching.jobs import Outcome, QueuedItem, R, Served, Submission, T
from service.batching.observer import BatchObserver, GuardedObserver
from service.batching.reservation import Forecast, Reservation
from service.batching.scheduler import BatchingLimits, Scheduler
from service.batching.thread_priority import LowPriority
from service.batching.worker import Run, Worker
from service.batching.worker_pool import WorkerPool

logger = logging.getLogger(__name__)

_LEAVE_S = 0.5
"""How long `close` waits for threads to end, which only those with a batch under way do not do at once."""
_RETRY_S = 0.1
"""How often a thread that ends tries to report it, where the event loop could not take the message."""


def one(_: object) -> int:
    """The cost of an item where all are alike."""
    return 1


class Batcher(Generic[T, R]):
    """The dynamic batching queue in front of one function that runs batches.

    An idle worker starts at once on whatever waits; while all are busy, work gathers. Every submitted item ends
    exactly once: with its result, with an error, cancelled, or at its deadline. It lives on the event loop that `start`
    ran on, and its methods may be called there only; `predict`, `health` and `stats` from anywhere.

        async with Batcher(run, name="detector", max_batch=8) as batcher:
            served = await batcher.submit(item, client="10.0.0.7", deadline=time.monotonic() + 0.5)
    """

    def __init__(
        self,
        run: Run[T, R],
        *,
        name: str,
        cost: Callable[[T], int] = one,
        max_batch: int = 8,
        max_delay: float = 0.0,
        max_queue: int = 256,
        workers: int = 1,
        batch_sizes: Sequence[int] | None = None,
        hang_after: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        observer: BatchObserver | None = None,
    ) -> None:
        """Make a batcher that does nothing until `start`.

        run: called on worker threads, by `workers` of them at once. cost: an item's work units, at least 1.
        max_batch, max_queue: in work units. max_delay: seconds that an idle worker waits for a batch to fill up.
        rungs: the batch sizes that take distinct time, ascending; powers of two up to max_batch if not given.
        hang_after: seconds that a batch may take, and be several times slower than usual, before `health` is bad.
        clock: seconds; deadlines are times of this clock.
        Raises ValueError where a limit makes no sense.
        """
        sizes = tuple(batch_sizes) if batch_sizes is not None else _powers_of_two(max_batch)
        limits = BatchingLimits(max_batch, max_delay, max_queue, workers, sizes, hang_after)
        self.name = name
        self._cost = cost
        self._clock = clock
        self._observer = GuardedObserver(observer or BatchObserver())
        self._scheduler = scheduler = Scheduler[QueuedItem[T, R]](name, limits, clock)
        low = LowPriority(name)
        self._pool = WorkerPool(
            name,
            scheduler,
            lambda number: Worker(name, number, run, scheduler, self._post, self._left, clock, self._observer, low),
            self._observer,
        )
        self._tickets: set[Submission[R]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def start(self) -> None:
        """Start the workers. Raises RuntimeError where it was started before."""
        if self._loop is not None or self._closed:
            raise RuntimeError(f"{self.name} can be started only once")
        self._loop = asyncio.get_running_loop()
        self._scheduler.accept()
        self._pool.fill(self._loop, self._workers_changed)

    def reshape(self, max_batch: int, batch_sizes: Sequence[int], workers: int) -> None:
        """Gather so many work units into a batch and run so many batches at once from now on, as `run` has come to
        take more or fewer; from any thread.

        A batch that is gathered already keeps its size; a worker that is one too many ends when its batch is done.
        Raises ValueError where a limit makes no sense.
        """
        self._scheduler.reshape(max_batch, batch_sizes, workers)
        if self._loop is not None:
            self._pool.fill(self._loop, self._workers_changed)

    async def close(self, drain: float = 10.0) -> None:
        """Refuse new work, finish what was accepted within `drain` seconds, fail the rest. Closing twice is fine.

        A worker that hangs is left behind; what it runs is finished with in the background or never.
        """
        self._closed = True
        self._scheduler.refuse()
        if self._loop is None:
            return
        try:
            if self._tickets:
                await asyncio.wait([ticket.future for ticket in self._tickets], timeout=drain)
        finally:
            self._fail_all(ClosedError(f"{self.name} was closed before the item was done"))
            self._scheduler.stop()
            self._pool.stop()
        try:
            async with asyncio.timeout(_LEAVE_S):
                await self._pool.gone.wait()
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
    ) -> Served[R]:
        """Wait for the result of one item.

        client: who shares the capacity fairly with other clients. deadline: a time of the clock. admitted: `admit` has
        let it pass, so that it is only refused when the batcher is closed or the deadline has passed. place: held for
        it by `hold`, to the same effect.
        Raises OverloadedError or ClosedError on arrival, DeadlineExceededError at the deadline, and whatever `run`
        raised or returned for this item. A caller that is cancelled takes its item out of the queue.
        """
        served = await self.submit_all(
            (item,), priority=priority, client=client, deadline=deadline, admitted=admitted, reservation=reservation
        )
        return served[0]

    async def submit_all(
        self,
        items: Sequence[T],
        *,
        priority: Priority = Priority.STILL,
        client: str = "",
        deadline: float | None = None,
        admitted: bool = False,
        reservation: Reservation | None = None,
    ) -> list[Served[R]]:
        """Wait for the results of several items, in their order; they are accepted all or none.

        Batches take them one by one. Where one fails, its error is raised and the others are cancelled. Otherwise as
        `submit`.
        """
        if not items:
            return []
        due = inf if deadline is None else deadline
        jobs = self._enqueue(items, priority, client, due, admitted, reservation)
        ticket = jobs[0].ticket
        self._tickets.add(ticket)
        timer = None
        if due < inf:
            timer = ticket.future.get_loop().call_later(max(0.0, due - self._clock()), self._expire, ticket)
        try:
            return await ticket.future
        except BaseException as error:
            self._scheduler.withdraw(jobs)  # what waits; what runs is ignored when it comes
            self._tell(error, ticket.missing)
            raise
        finally:
            self._tickets.discard(ticket)
            if timer is not None:
                timer.cancel()
            del jobs, ticket  # the error's traceback holds this frame, and the ticket holds the error

    def admit(
        self, units: int, *, priority: Priority = Priority.STILL, client: str = "", deadline: float | None = None
    ) -> Forecast:
        """When so many units of work would be done; nothing is held. Raises what `submit` would.

        For callers that want to know before they read a request, or before the first of several stages.
        """
        try:
            return self._scheduler.admit(units, priority, client, inf if deadline is None else deadline)
        except BatchingError as refusal:
            self._observer.rejected(self.name, refusal.reason)
            raise

    def hold(self, units: int, *, priority: Priority = Priority.STILL, client: str = "") -> Reservation:
        """Count work that is on its way as waiting from now on, so that nobody is promised its turn.

        Give the place to `submit` with the work, and to `release` once no more of it will come.
        """
        return self._scheduler.hold(units, priority, client)

    def release(self, reservation: Reservation) -> None:
        """Give up what is left of a place."""
        self._scheduler.release(reservation)

    def predict(self, units: int = 1, *, priority: Priority = Priority.STILL, client: str = "") -> Forecast:
        """When so much work would be done if it was submitted now."""
        return self._scheduler.predict(units, priority, client)

    @property
    def health(self) -> Health:
        """Whether it serves; it gets better by itself where the cause goes."""
        if self._loop is None or self._closed:
            return Health("closed", f"{self.name} is closed" if self._closed else f"{self.name} is not started")
        if dead := self._pool.dead:
            return Health("dead", f"{dead} of {self._pool.size} workers of {self.name} have ended")
        if hung := self._scheduler.hung():
            return Health("hung", hung)
        return Health("ok", f"{self.name} serves")

    @property
    def idle(self) -> bool:
        """Whether nobody waits for a result."""
        return not self._tickets

    @property
    def stats(self) -> Stats:
        """What waits and runs now."""
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
        """Let items wait, all or none."""
        arrived = self._clock()
        ticket: Submission[R] = Submission(asyncio.get_running_loop().create_future(), len(items))
        jobs: list[QueuedItem[T, R]] = []
        for index, item in enumerate(items):
            units = self._cost(item)
            if units < 1:
                raise ValueError(f"the cost of an item of {self.name} must be at least 1 unit, not {units}")
            jobs.append(QueuedItem(units, priority, client, deadline, arrived, item, ticket, index))
        try:
            self._scheduler.offer(jobs, admitted=admitted, reservation=reservation)
        except BatchingError as refusal:
            self._observer.rejected(self.name, refusal.reason)
            raise
        return jobs

    def _expire(self, ticket: Submission[R]) -> None:
        ticket.fail(DeadlineExceededError(f"{self.name} had no result by the deadline"))

    def _tell(self, error: BaseException, items: int) -> None:
        """Let the observer know how a call ended that has no results for so many of its items."""
        match error:
            case DeadlineExceededError():
                told = [self._observer.expired] * items
            case ClosedError():
                told = [self._observer.failed] * items
            case asyncio.CancelledError():
                told = [self._observer.cancelled] * items
            case _:
                told = [self._observer.failed] + [self._observer.cancelled] * (items - 1)
        for tell in told:
            tell(self.name)

    def _fail_all(self, error: BatchingError) -> None:
        for ticket in self._tickets:
            ticket.fail(error)

    def _on_loop(self, callback: Callable[[], None]) -> None:
        """Called by workers."""
        if self._loop is None:
            raise RuntimeError("a worker runs before start")
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            if not self._loop.is_closed():
                raise
            # A worker that had hung came back after its event loop ended, and with that everybody who waited.

    def _post(self, jobs: Sequence[QueuedItem[T, R]], outcomes: Sequence[Outcome[R]]) -> None:
        self._on_loop(partial(_deliver, jobs, outcomes))

    def _left(self, worker: Worker[T, R]) -> None:
        """Report the end of a worker's thread to the event loop; on that thread. Retries until the loop takes it."""
        while True:
            try:
                self._on_loop(partial(self._worker_left, worker))
            except Exception:  # noqa: BLE001 - most likely there is no memory, for a log line neither
                time.sleep(_RETRY_S)
            else:
                return

    def _worker_left(self, worker: Worker[T, R]) -> None:
        self._scheduler.end(worker.index)
        if worker.undelivered is None:  # it ended while it took work, and nobody knows which items it took
            self._fail_all(ClosedError(f"a worker of {self.name} failed while it took work"))
        for job in worker.undelivered or ():
            job.ticket.fail(RunError(f"a worker of {self.name} failed, its log says why"))
        worker.undelivered = ()
        self._pool.replace(worker, self._workers_changed)

    def _workers_changed(self) -> None:
        """A worker has to pause, or was started again. Without any, refuse new items and fail those that wait."""
        if self._closed:
            return
        if self._pool.running:
            self._scheduler.accept()
        else:
            self._scheduler.refuse()
            self._fail_all(ClosedError(f"all workers of {self.name} have ended"))


def _deliver(jobs: Sequence[QueuedItem[T, R]], outcomes: Sequence[Outcome[R]]) -> None:
    """On the event loop: hand a whole batch to those who wait for it."""
    for job, outcome in zip(jobs, outcomes, strict=True):
        try:
            job.ticket.settle(job.index, outcome)
        except Exception as error:  # noqa: BLE001 - it is this item's outcome now, and its neighbours get theirs
            job.ticket.fail(error)


def _powers_of_two(limit: int) -> tuple[int, ...]:
    """1, 2, 4 and so on up to `limit`, which is always among them."""
    return (*(1 << i for i in range((limit - 1).bit_length())), limit)
