"""A supervised thread that runs batches."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Generic

from service.batching.dispatcher import Dispatcher
from service.batching.errors import DeadlineExceededError, RunError
from service.batching.jobs import Job, Outcome, R, Served, T
from service.batching.observer import Observer

logger = logging.getLogger(__name__)

_NICE = 5
"""Gives a thread a third of the processor time of one without, where both want it."""

Run = Callable[[Sequence[T]], Sequence[R | BaseException]]
"""Runs a batch: one result for each item in its order, or an exception in place of a result."""


class Worker(Generic[T, R]):
    """Takes batches from a dispatcher, runs them and delivers how each item ended, until the dispatcher stops.

    Whatever `run` raises ends no more than the item that caused it. Something that is no `Exception` (SystemExit, say)
    or an error outside of `run` also costs the thread, as it may have left broken state of its own behind: a new thread
    takes its place.
    """

    def __init__(
        self,
        name: str,
        index: int,
        run: Run[T, R],
        dispatcher: Dispatcher[Job[T, R]],
        deliver: Callable[[Sequence[Job[T, R]], Sequence[Outcome[R]]], None],
        left: Callable[[], None],
        clock: Callable[[], float],
        observer: Observer,
    ) -> None:
        """`deliver` is called once for every job taken and `left` when the worker serves no more, on its thread.

        `ended` is whether it serves no more, `dismissed` whether that is because the dispatcher let it go.
        """
        self.restarts = 0
        self.ended = False
        self.dismissed = False
        self._name = name
        self._index = index
        self._run = run
        self._dispatcher = dispatcher
        self._deliver = deliver
        self._left = left
        self._clock = clock
        self._observer = observer
        self._spoilt = False
        self._thread = self._new_thread()

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def join(self) -> None:
        """Wait until the thread has ended: at once, where `left` has been called."""
        self._thread.join()

    def _new_thread(self) -> threading.Thread:
        # A daemon, as a runtime that hangs for ever must not keep the process from ending.
        return threading.Thread(target=self._main, name=f"posewire-{self._name}-{self._index}", daemon=True)

    def _main(self) -> None:
        _give_way()
        replaced = False
        try:
            if self._serve():
                self._replace()
                replaced = True
        finally:
            if not replaced:
                self.ended = True
                self._left()

    def _replace(self) -> None:
        logger.error("a thread of %s is replaced", self._name)
        self.restarts += 1
        try:
            self._observer.restarted(self._name)
        except Exception:  # whoever only counts must not cost the thread that takes over
            logger.exception("the observer of %s failed", self._name)
        self._thread = self._new_thread()
        self._thread.start()

    def _serve(self) -> bool:
        """Serve until the dispatcher stops, or until this thread is spoilt: then True."""
        self._spoilt = False
        while not self._spoilt and self._turn():
            pass
        return self._spoilt

    def _turn(self) -> bool:
        """Serve one batch, False where there will be none: in a frame of its own, so that no item outlives its turn."""
        work = self._dispatcher.take(self._index)
        if work is None:
            self.dismissed = True
            return False
        jobs, expired = work
        if expired:
            why = f"the deadline passed while the item waited for {self._name}"
            self._deliver(expired, [DeadlineExceededError(why) for _ in expired])
        jobs = [job for job in jobs if not job.ticket.done]  # the event loop may be late in withdrawing some
        if jobs:
            self._work(jobs)
        else:
            self._dispatcher.end(self._index)
        return True

    def _work(self, jobs: list[Job[T, R]]) -> None:
        started = self._clock()
        try:
            self._observer.batch_started(self._name, len(jobs), sum(job.units for job in jobs))
            for job in jobs:
                self._observer.waited(self._name, started - job.arrived)
            outcomes = self._outcomes(jobs)
            self._observer.batch_finished(self._name, len(jobs), self._clock() - started)
        except BaseException:
            self._spoilt = True
            logger.exception("a worker of %s failed outside of run", self._name)
            why = f"a worker of {self._name} failed, its log says why"
            outcomes = [RunError(why) for _ in jobs]
        self._dispatcher.end(self._index)
        self._deliver(jobs, outcomes)

    def _outcomes(self, jobs: list[Job[T, R]]) -> list[Outcome[R]]:
        """Run a batch; if that fails, every item of it alone, so that only the culprit gets the error."""
        outcomes = self._attempt(jobs)
        if not isinstance(outcomes, Exception):
            return outcomes
        if len(jobs) == 1:
            return [outcomes]
        logger.warning("a batch of %d failed in %s, its items run alone: %r", len(jobs), self._name, outcomes)
        return [self._alone(job, outcomes) for job in jobs]

    def _alone(self, job: Job[T, R], failure: Exception) -> Outcome[R]:
        if job.ticket.done:
            return failure  # nobody waits for it any more
        self._dispatcher.begin(self._index, [job])
        outcomes = self._attempt([job])
        return outcomes if isinstance(outcomes, Exception) else outcomes[0]

    def _attempt(self, jobs: list[Job[T, R]]) -> list[Outcome[R]] | Exception:
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
        self._dispatcher.ran(jobs, seconds)
        return [
            _presentable(result)
            if isinstance(result, BaseException)
            else Served(result, started - job.arrived, seconds, len(jobs))
            for job, result in zip(jobs, results, strict=True)
        ]


def _give_way() -> None:
    """Lower this thread's priority below the event loop's, which must accept and refuse in time however busy we are."""
    if sys.platform == "linux":  # where every thread has a priority of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + _NICE)


def _presentable(error: BaseException) -> Exception:
    """What can be raised at the caller: an exception that would end its event loop or its coroutine is wrapped."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    wrapped = RunError(f"run raised {error!r}")
    wrapped.__cause__ = error
    return wrapped
