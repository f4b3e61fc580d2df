"""A thread that runs batches."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic

from service.batching.errors import DeadlineExceededError, RunError
from service.batching.jobs import Outcome, QueuedItem, R, Served, T
from service.batching.observer import BatchObserver
from service.batching.scheduler import Scheduler
from service.batching.thread_priority import LowPriority

logger = logging.getLogger(__name__)

Run = Callable[[Sequence[T]], Sequence[R | BaseException]]
"""Runs a batch: one result for each item in its order, or an exception in place of a result."""


class Worker(Generic[T, R]):
    """Takes batches from a dispatcher, runs them and delivers how each item ended, until the dispatcher stops.

    Whatever `run` raises ends no more than the item that caused it. Something that is no `Exception` (SystemExit, say)
    or an error outside of `run` also ends the thread, as it may have left broken state of its own behind. The thread
    reports every end of its own by `left`; its owner, the Crew, starts another.
    """

    def __init__(
        self,
        name: str,
        index: int,
        run: Run[T, R],
        scheduler: Scheduler[QueuedItem[T, R]],
        deliver: Callable[[Sequence[QueuedItem[T, R]], Sequence[Outcome[R]]], None],
        left: Callable[[Worker[T, R]], None],
        clock: Callable[[], float],
        observer: BatchObserver,
        priority: LowPriority,
    ) -> None:
        """`deliver` is called once for every job taken, and `left` as the last act of each thread.

        running: whether a thread serves. dismissed: whether the dispatcher let the worker go. failures: how many
        threads in a row ended by an error outside of `run`, without one batch served. undelivered: the jobs that the
        last thread took and did not deliver; None if it ended while it took some, so that nobody knows which.
        """
        self.index = index
        self.running = False
        self.dismissed = False
        self.failures = 0
        self.undelivered: Sequence[QueuedItem[T, R]] | None = ()
        self._name = name
        self._run = run
        self._scheduler = scheduler
        self._deliver = deliver
        self._left = left
        self._clock = clock
        self._observer = observer
        self._priority = priority
        self._spoilt = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Serve on a new thread. Raises RuntimeError or MemoryError where the system gives none."""
        # A daemon, as a runtime that hangs for ever must not keep the process from ending.
        thread = threading.Thread(target=self._main, name=f"posewire-{self._name}-{self.index}", daemon=True)
        self._spoilt = False
        self.running = True
        try:
            thread.start()
        except BaseException:
            self.running = False
            self.failures += 1
            raise
        self._thread = thread

    def join(self) -> None:
        """Wait until the thread has ended: at once, where `left` has been called."""
        if self._thread is not None:
            self._thread.join()

    def _main(self) -> None:
        try:
            self._priority.apply()
            while not self._spoilt and self._turn():
                pass
        except BaseException:
            self.failures += 1
            with suppress(BaseException):  # a log that fails must not hide that the thread has ended
                logger.exception("a worker of %s failed outside of run", self._name)
        finally:
            self._left(self)

    def _turn(self) -> bool:
        """Serve one batch, False where there will be none: in a frame of its own, so that no item outlives its turn."""
        self.undelivered = None
        work = self._scheduler.take(self.index)
        if work is None:
            self.undelivered = ()
            self.dismissed = True
            return False
        jobs, expired = work
        self.undelivered = [*jobs, *expired]
        if expired:
            why = f"the deadline passed while the item waited for {self._name}"
            self._deliver(expired, [DeadlineExceededError(why) for _ in expired])
        jobs = [job for job in jobs if not job.ticket.done]  # the event loop may be late in withdrawing some
        if jobs:
            self._work(jobs)
        else:
            self._scheduler.end(self.index)
        self.undelivered = ()
        self.failures = 0
        return True

    def _work(self, jobs: list[QueuedItem[T, R]]) -> None:
        started = self._clock()
        self._observer.batch_started(self._name, len(jobs), sum(job.units for job in jobs))
        for job in jobs:
            self._observer.waited(self._name, started - job.arrived)
        outcomes = self._outcomes(jobs)
        self._scheduler.end(self.index)
        self._deliver(jobs, outcomes)
        self._observer.batch_finished(self._name, len(jobs), self._clock() - started)

    def _outcomes(self, jobs: list[QueuedItem[T, R]]) -> list[Outcome[R]]:
        """Run a batch; if that fails, every item of it alone, so that only the culprit gets the error."""
        outcomes = self._attempt(jobs)
        if not isinstance(outcomes, Exception):
            return outcomes
        if len(jobs) == 1:
            return [outcomes]
        logger.warning("a batch of %d failed in %s, its items run alone: %r", len(jobs), self._name, outcomes)
        return [self._alone(job, outcomes) for job in jobs]

    def _alone(self, job: QueuedItem[T, R], failure: Exception) -> Outcome[R]:
        if job.ticket.done:
            return failure  # nobody waits for it any more
        self._scheduler.begin(self.index, [job])
        outcomes = self._attempt([job])
        return outcomes if isinstance(outcomes, Exception) else outcomes[0]

    def _attempt(self, jobs: list[QueuedItem[T, R]]) -> list[Outcome[R]] | Exception:
        """Call `run` once. What it raised is returned."""
        started = self._clock()
        try:
            results = self._run([job.item for job in jobs])
            if len(results) != len(jobs):
                raise RunError(f"run returned {len(results)} results for {len(jobs)} items")
        except BaseException as error:  # noqa: BLE001 (it goes to whoever awaits the item)
            self._spoilt |= not isinstance(error, Exception)
            return _presentable(error)
        seconds = self._clock() - started
        self._scheduler.ran(jobs, seconds)
        return [
            _presentable(result)
            if isinstance(result, BaseException)
            else Served(result, started - job.arrived, seconds, len(jobs))
            for job, result in zip(jobs, results, strict=True)
        ]


def _presentable(error: BaseException) -> Exception:
    """What can be raised at the caller: an exception that would end its event loop or its coroutine is wrapped."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    wrapped = RunError(f"run raised {error!r}")
    wrapped.__cause__ = error
    return wrapped
