"""One graph compiled for several batch sizes, some of them only once a batch could use them."""

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
"""Before a graph that could not be compiled is tried again."""


class Graph(Protocol):
    """A graph that is compiled for one batch size."""

    def release(self) -> None:
        """Free what is only kept for the next batch."""


G = TypeVar("G", bound=Graph)


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a rung has no graph yet. times: in a row. again_at: when it may be tried next, by the clock."""

    times: int
    again_at: float


class BatchGraphs(Generic[G]):
    """The graphs of each rung. Methods may be called from any thread.

    ready: those that are there from the start, that of one item among them. later: the rungs that are compiled on a
    thread of their own the first time that a batch has so many items, which runs in smaller pieces until then.
    compile_for: makes and warms up the graph of a rung. Where it fails, or no thread can be started, the rung is tried
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
        self._graphs = dict(ready)  # replaced, never changed, as is the next
        self._failures: dict[int, _Failure] = {}
        self._lock = threading.Lock()
        self._growth: threading.Thread | None = None
        self._closed = False

    def cut(self, count: int) -> list[tuple[G, slice]]:
        """The pieces that a batch of `count` items runs in, and the graph of each."""
        graphs = self._graphs
        if lacking := [batch_size for batch_size in self._later if batch_size <= count and batch_size not in graphs]:
            self._want(lacking)
        return [
            (graphs[stop - start], slice(start, stop)) for start, stop in cut_into_batch_sizes(count, sorted(graphs))
        ]

    def shrink(self) -> None:
        """Drop what was compiled since the start, and free what the others keep for the next batch. In no call."""
        with self._lock:
            self._graphs = dict(self._first)
        for graph in self._first.values():
            graph.release()

    def close(self) -> None:
        """Free all graphs, in no call, and end the thread."""
        with self._lock:
            self._closed = True
            growth = self._growth
        if growth is not None:
            growth.join()
        self._first, self._graphs = {}, {}

    def _want(self, lacking: Sequence[int]) -> None:
        """Compile the largest of these rungs that may be tried now, unless one is being compiled."""
        with self._lock:
            if self._growth is not None or self._closed:
                return  # one after the other: compiling takes a core
            now = self._clock()
            due = [
                batch_size
                for batch_size in lacking
                if batch_size not in self._graphs and self._may_try(batch_size, now)
            ]
            if not due:
                return
            batch_size = max(due)
            # No daemon: the interpreter must not end under a compiler.
            growth = threading.Thread(target=self._grow, args=(batch_size,), name=f"posewire-rung-{batch_size}")
            self._growth = growth
            try:
                growth.start()
            except (RuntimeError, MemoryError) as error:  # the batch itself can do without
                self._growth = None
                self._fail(batch_size, error)

    def _may_try(self, batch_size: int, now: float) -> bool:
        return batch_size not in self._failures or now >= self._failures[batch_size].again_at

    def _grow(self, batch_size: int) -> None:
        try:
            graph = self._compile_for(batch_size)
        except BaseException as error:  # noqa: BLE001 - it is logged, and no end of this thread may stop growth for good
            with self._lock:
                self._growth = None
                self._fail(batch_size, error)
            return
        with self._lock:
            self._growth = None
            self._graphs = {**self._graphs, batch_size: graph}
            self._failures = {failed: why for failed, why in self._failures.items() if failed != batch_size}

    def _fail(self, batch_size: int, error: BaseException) -> None:
        """Remember and log why a rung has no graph. With the lock held."""
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
