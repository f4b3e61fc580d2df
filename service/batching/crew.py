"""The workers of one batcher, of which there can be more or fewer while it serves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic

from service.batching.dispatcher import Dispatcher
from service.batching.jobs import Job, R, T
from service.batching.worker import Worker


class Crew(Generic[T, R]):
    """Starts the workers that the dispatcher calls for, and joins those that it lets go.

    hire: makes the worker of a number. Methods may be called from any thread.
    """

    def __init__(self, dispatcher: Dispatcher[Job[T, R]], hire: Callable[[int], Worker[T, R]]) -> None:
        self._dispatcher = dispatcher
        self._hire = hire
        self._lock = threading.Lock()
        self._workers: list[Worker[T, R]] = []
        self._past_restarts = 0

    def fill(self) -> None:
        """Start the workers that are missing."""
        with self._lock:
            for number in self._dispatcher.missing():
                worker = self._hire(number)
                self._workers.append(worker)
                worker.start()

    def part(self) -> None:
        """Join the threads of those that were let go, which is done at once, and forget them."""
        with self._lock:
            for worker in [worker for worker in self._workers if worker.dismissed]:
                worker.join()
                self._past_restarts += worker.restarts
                self._workers.remove(worker)

    def join(self) -> None:
        """Wait until all threads have ended, of those too that died."""
        for worker in self._all():
            worker.join()

    @property
    def size(self) -> int:
        """How many there are, those that died included."""
        return len(self._all())

    @property
    def dead(self) -> int:
        """How many have ended though nobody let them go."""
        return sum(worker.ended and not worker.dismissed for worker in self._all())

    @property
    def restarts(self) -> int:
        """How many threads were replaced since the start."""
        with self._lock:
            return self._past_restarts + sum(worker.restarts for worker in self._workers)

    def _all(self) -> list[Worker[T, R]]:
        with self._lock:
            return list(self._workers)
