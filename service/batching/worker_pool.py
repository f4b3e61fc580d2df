"""The worker pool of one batcher: starts workers, replaces those that end, and joins those that have exited."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Generic

from service.batching.scheduler import Scheduler
from service.batching.types import BatchObserver, QueuedItem, R, T
from service.batching.worker import Worker

logger = logging.getLogger(__name__)

_PAUSE_S, _MAX_PAUSE_S = 0.1, 10.0
"""The pause before a worker that failed outside of `run` is started again. Doubled with each failure in a row."""


class WorkerPool(Generic[T, R]):
    """Starts the workers that the scheduler asks for, replaces those that end, and joins those that it tells to exit.

    A thread that ended because of `run` is replaced at once: each such end costs an item, so it cannot spin. A thread
    that failed in any other way, or could not be started, is started again after a pause.
    """

    def __init__(
        self,
        name: str,
        scheduler: Scheduler[QueuedItem[T, R]],
        make_worker: Callable[[int], Worker[T, R]],
        observer: BatchObserver,
    ) -> None:
        """make_worker: makes the worker of a number. ended: set once it is stopped and its last thread has ended."""
        self._name = name
        self._scheduler = scheduler
        self._make_worker = make_worker
        self._observer = observer
        self._lock = threading.Lock()
        self._workers: list[Worker[T, R]] = []
        self._paused: dict[Worker[T, R], asyncio.TimerHandle] = {}
        self._stopped = False
        self._restarts = 0
        self.ended = asyncio.Event()

    def start_missing(self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]) -> None:
        """Start the missing workers; from any thread.

        changed: called on the loop when a worker has to pause, and when it is started again.
        """
        with self._lock:
            for number in self._scheduler.missing():
                worker = self._make_worker(number)
                self._workers.append(worker)
                if why := _start(worker):
                    loop.call_soon_threadsafe(self._pause, worker, why, changed)

    def replace(self, worker: Worker[T, R], changed: Callable[[], None]) -> None:
        """Remove a worker whose thread has ended if it was told to exit; otherwise start another thread for it.

        On the loop. changed: see `start_missing`.
        """
        worker.running = False
        if worker.dismissed:
            worker.join()
            with self._lock:
                self._workers.remove(worker)
        elif worker.failures:
            self._pause(worker, "it failed", changed)
        else:
            self._restart(worker, changed)
        self._check_ended()

    def stop(self) -> None:
        """Stop replacing workers; `ended` is set once the last thread has ended. On the loop."""
        self._stopped = True
        for timer in self._paused.values():
            timer.cancel()
        self._paused.clear()
        self._check_ended()

    def join(self) -> None:
        """Wait until all threads have ended."""
        with self._lock:
            workers = list(self._workers)
        for worker in workers:
            worker.join()

    @property
    def size(self) -> int:
        """The number of workers that there should be."""
        return len(self._workers)

    @property
    def running(self) -> int:
        """The number of workers that have a thread."""
        with self._lock:
            return sum(worker.running for worker in self._workers)

    @property
    def dead(self) -> int:
        """The number of workers that have no thread until a pause is over."""
        return len(self._paused)

    @property
    def restarts(self) -> int:
        """The number of threads replaced since the start."""
        return self._restarts

    def _check_ended(self) -> None:
        if self._stopped and not self.running:
            self.ended.set()

    def _pause(self, worker: Worker[T, R], why: str, changed: Callable[[], None]) -> None:
        if self._stopped:
            return
        pause = min(_PAUSE_S * 2.0 ** min(worker.failures - 1, 10), _MAX_PAUSE_S)
        self._paused[worker] = asyncio.get_running_loop().call_later(pause, self._restart, worker, changed)
        changed()
        logger.error("a worker of %s has no thread (%s); it is started again in %.1f s", self._name, why, pause)

    def _restart(self, worker: Worker[T, R], changed: Callable[[], None]) -> None:
        if self._stopped:
            return
        self._paused.pop(worker, None)
        if why := _start(worker):
            self._pause(worker, why, changed)
            return
        self._restarts += 1
        self._observer.restarted(self._name)
        changed()
        logger.error("a thread of %s is replaced", self._name)


def _start(worker: Worker[T, R]) -> str:
    """Start a worker's thread. Returns the reason if that failed, else an empty string."""
    try:
        worker.start()
    except (RuntimeError, MemoryError) as error:  # "can't start new thread": too many, or no memory for a stack
        return str(error) or "out of memory"
    return ""
