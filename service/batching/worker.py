"""A worker: a thread that runs batches, below the event loop's priority."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic

from service.batching.scheduler import Scheduler
from service.batching.types import (
    BatchObserver,
    BatchResult,
    DeadlineExceededError,
    Outcome,
    QueuedItem,
    R,
    RunError,
    T,
)

logger = logging.getLogger(__name__)

NICE = 5
"""With this nice value a thread gets a third of the processor time of a normal one, when both want it."""
_LOWEST = 19

Run = Callable[[Sequence[T]], Sequence[R | BaseException]]
"""Runs a batch. Returns one result for each item, in order, or an exception in place of a result."""


class LowPriority:
    """Lowers the priority of the calling thread below the event loop's, which must accept and refuse work in time.

    The nice value is relative to the process's main thread, so a thread that replaces another gets the same one. If the
    system denies the change, the thread keeps its priority and a warning is logged once.
    """

    def __init__(self, name: str, nice: int = NICE) -> None:
        """name: of the batcher that the threads serve, for the log. nice: added to the main thread's nice value."""
        self._name = name
        self._nice = nice
        self._denied = False

    def apply(self) -> None:
        """Change the calling thread's priority. Does nothing on systems where threads have no priority of their own."""
        if sys.platform != "linux":
            return
        try:
            main = os.getpriority(os.PRIO_PROCESS, os.getpid())
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(main + self._nice, _LOWEST))
        except OSError as error:  # seccomp filters and security modules may deny it
            if not self._denied:
                self._denied = True
                logger.warning(
                    "the threads of %s keep the event loop's priority, lowering it is denied: %s", self._name, error
                )


class Worker(Generic[T, R]):
    """Takes batches from the scheduler, runs them and delivers the outcome of each item, until the scheduler stops.

    An exception from `run` fails only the item that caused it. If it is not an `Exception` (SystemExit, say), or if an
    error occurs outside of `run`, the thread also ends, as it may have left broken thread-local state behind. The
    thread reports its end through `on_exit`; its owner, the WorkerPool, starts another.
    """

    def __init__(
        self,
        name: str,
        index: int,
        run: Run[T, R],
        scheduler: Scheduler[QueuedItem[T, R]],
        deliver: Callable[[Sequence[QueuedItem[T, R]], Sequence[Outcome[R]]], None],
        on_exit: Callable[[Worker[T, R]], None],
        clock: Callable[[], float],
        observer: BatchObserver,
        priority: LowPriority,
    ) -> None:
        """`deliver` is called once for every item taken, and `on_exit` as the last act of each thread.

        running: whether a thread serves. dismissed: whether the scheduler told the worker to exit. failures: the number
        of threads in a row that ended by an error outside of `run` before they served a batch. undelivered: the items
        that the last thread took and did not deliver; None if it ended while taking items, so that they are unknown.
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
        self._on_exit = on_exit
        self._clock = clock
        self._observer = observer
        self._priority = priority
        self._broken = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Serve on a new thread. Raises RuntimeError or MemoryError if the system cannot start one."""
        # A daemon thread, because a runtime that hangs must not keep the process from exiting.
        thread = threading.Thread(target=self._main, name=f"posewire-{self._name}-{self.index}", daemon=True)
        self._broken = False
        self.running = True
        try:
            thread.start()
        except BaseException:
            self.running = False
            self.failures += 1
            raise
        self._thread = thread

    def join(self) -> None:
        """Wait until the thread has ended; returns at once after `on_exit` was called."""
        if self._thread is not None:
            self._thread.join()

    def _main(self) -> None:
        try:
            self._priority.apply()
            while not self._broken and self._serve_batch():
                pass
        except BaseException:
            self.failures += 1
            with suppress(BaseException):  # a failing log must not hide that the thread has ended
                logger.exception("a worker of %s failed outside of run", self._name)
        finally:
            self._on_exit(self)

    def _serve_batch(self) -> bool:
        """Serve one batch; False if there will be no more. In its own function, so that items are freed after it."""
        self.undelivered = None
        work = self._scheduler.take(self.index)
        if work is None:
            self.undelivered = ()
            self.dismissed = True
            return False
        items, expired = work
        self.undelivered = [*items, *expired]
        if expired:
            why = f"the deadline passed while the item waited for {self._name}"
            self._deliver(expired, [DeadlineExceededError(why) for _ in expired])
        items = [item for item in items if not item.submission.done]  # the event loop may be late in withdrawing some
        if items:
            self._run_batch(items)
        else:
            self._scheduler.end(self.index)
        self.undelivered = ()
        self.failures = 0
        return True

    def _run_batch(self, items: list[QueuedItem[T, R]]) -> None:
        started = self._clock()
        self._observer.batch_started(self._name, len(items), sum(item.units for item in items))
        for item in items:
            self._observer.waited(self._name, started - item.arrived)
        outcomes = self._outcomes(items)
        self._scheduler.end(self.index)
        self._deliver(items, outcomes)
        self._observer.batch_finished(self._name, len(items), self._clock() - started)

    def _outcomes(self, items: list[QueuedItem[T, R]]) -> list[Outcome[R]]:
        """Run a batch. If it fails, run each of its items alone, so that only the culprit gets the error."""
        outcomes = self._attempt(items)
        if not isinstance(outcomes, Exception):
            return outcomes
        if len(items) == 1:
            return [outcomes]
        logger.warning("a batch of %d failed in %s, its items run alone: %r", len(items), self._name, outcomes)
        return [self._run_alone(item, outcomes) for item in items]

    def _run_alone(self, item: QueuedItem[T, R], failure: Exception) -> Outcome[R]:
        if item.submission.done:
            return failure  # nobody awaits its result
        self._scheduler.begin(self.index, [item])
        outcomes = self._attempt([item])
        return outcomes if isinstance(outcomes, Exception) else outcomes[0]

    def _attempt(self, items: list[QueuedItem[T, R]]) -> list[Outcome[R]] | Exception:
        """Call `run` once. Returns its outcomes, or the exception that it raised."""
        started = self._clock()
        try:
            results = self._run([item.item for item in items])
            if len(results) != len(items):
                raise RunError(f"run returned {len(results)} results for {len(items)} items")
        except BaseException as error:  # noqa: BLE001 (it is raised at the caller that awaits the item)
            self._broken |= not isinstance(error, Exception)
            return _as_exception(error)
        seconds = self._clock() - started
        if not any(isinstance(result, BaseException) for result in results):  # failed work may take no time at all
            self._scheduler.ran(items, seconds)
        return [
            _as_exception(result)
            if isinstance(result, BaseException)
            else BatchResult(result, started - item.arrived, seconds, len(items), item.units)
            for item, result in zip(items, results, strict=True)
        ]


def _as_exception(error: BaseException) -> Exception:
    """An exception to raise in the caller. One that would end its event loop or coroutine is wrapped in RunError."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    wrapped = RunError(f"run raised {error!r}")
    wrapped.__cause__ = error
    return wrapped
