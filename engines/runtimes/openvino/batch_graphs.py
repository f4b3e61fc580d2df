"""One graph compiled for several batch sizes, some of them only when a batch first needs them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from engines.runtimes.base import cut_into_batch_sizes

logger = logging.getLogger(__name__)

_PAUSE_S, _LONGEST_PAUSE_S = 10.0, 3600.0
"""The first and the longest pause before compiling is retried after a failure."""


class Graph(Protocol):
    """A graph compiled for one batch size."""

    def release(self) -> None:
        """Free memory that is only kept for the next batch."""


G = TypeVar("G", bound=Graph)


@dataclass(frozen=True, slots=True)
class _Failure:
    """Failures to compile for a batch size. times: in a row. again_at: the earliest next try, on the clock."""

    times: int
    again_at: float


class BatchGraphs(Generic[G]):
    """The graph of each batch size. Thread-safe.

    ready: the graphs that exist from the start; batch size 1 must be among them. later: batch sizes that are compiled
    on a background thread the first time that a batch needs them. Until then such batches run in smaller pieces.
    compile_for: compiles and warms up the graph of a batch size. If it fails, or no thread can be started, it is tried
    again after a pause, which doubles with each failure in a row. clock: seconds.
    """

    def __init__(
        self,
        ready: Mapping[int, G],
        later: Sequence[int],
        compile_for: Callable[[int], G],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first = dict(ready)
        self._later = tuple(later)
        self._compile_for = compile_for
        self._clock = clock
        self._graphs = dict(ready)  # replaced, never mutated, as is _failures
        self._failures: dict[int, _Failure] = {}
        self._lock = threading.Lock()
        self._compiling: threading.Thread | None = None
        self._closed = False

    def cut(self, count: int) -> list[tuple[G, slice]]:
        """Cut a batch of `count` items into the pieces that it runs in, each with its graph."""
        graphs = self._graphs
        if missing := [batch_size for batch_size in self._later if batch_size <= count and batch_size not in graphs]:
            self._compile_largest(missing)
        return [
            (graphs[stop - start], slice(start, stop)) for start, stop in cut_into_batch_sizes(count, sorted(graphs))
        ]

    def shrink(self) -> None:
        """Drop the graphs compiled since the start and release the others. No call may be under way."""
        with self._lock:
            self._graphs = dict(self._first)
        for graph in self._first.values():
            graph.release()

    def close(self) -> None:
        """Free all graphs and end the background thread. No call may be under way."""
        with self._lock:
            self._closed = True
            compiling = self._compiling
        if compiling is not None:
            compiling.join()
        self._first, self._graphs = {}, {}

    def _compile_largest(self, missing: Sequence[int]) -> None:
        """Start compiling the largest of these batch sizes that is due, unless one is being compiled already."""
        with self._lock:
            if self._compiling is not None or self._closed:
                return  # one at a time: compiling takes a core
            now = self._clock()
            due = [
                batch_size
                for batch_size in missing
                if batch_size not in self._graphs and self._may_try(batch_size, now)
            ]
            if not due:
                return
            batch_size = max(due)
            # Not a daemon thread: the interpreter must not exit while the compiler runs.
            compiling = threading.Thread(
                target=self._compile, args=(batch_size,), name=f"posewire-compile-{batch_size}"
            )
            self._compiling = compiling
            try:
                compiling.start()
            except (RuntimeError, MemoryError) as error:  # the batch runs in smaller pieces
                self._compiling = None
                self._fail(batch_size, error)

    def _may_try(self, batch_size: int, now: float) -> bool:
        return batch_size not in self._failures or now >= self._failures[batch_size].again_at

    def _compile(self, batch_size: int) -> None:
        try:
            graph = self._compile_for(batch_size)
        except BaseException as error:  # noqa: BLE001 - it is logged, and must not stop later compiling
            with self._lock:
                self._compiling = None
                self._fail(batch_size, error)
            return
        with self._lock:
            self._compiling = None
            self._graphs = {**self._graphs, batch_size: graph}
            self._failures = {failed: why for failed, why in self._failures.items() if failed != batch_size}

    def _fail(self, batch_size: int, error: BaseException) -> None:
        """Record and log a failure. Call with the lock held."""
        times = self._failures[batch_size].times + 1 if batch_size in self._failures else 1
        pause = min(_PAUSE_S * 2.0 ** min(times - 1, 10), _LONGEST_PAUSE_S)
        self._failures = {**self._failures, batch_size: _Failure(times, self._clock() + pause)}
        logger.error(
            "the graph for batches of %d cannot be compiled; they run in smaller pieces, and it is tried again in "
            "%.0f s at the earliest",
            batch_size,
            pause,
            exc_info=error,
        )
