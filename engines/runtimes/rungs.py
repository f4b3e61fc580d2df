"""One graph compiled for several batch sizes, some of them only once a batch could use them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from engines.runtimes.base import cut_into_rungs

logger = logging.getLogger(__name__)


class Graph(Protocol):
    """A graph that is compiled for one batch size."""

    def release(self) -> None:
        """Free what is only kept for the next batch."""


G = TypeVar("G", bound=Graph)


class Rungs(Generic[G]):
    """The graphs of each rung. Methods may be called from any thread.

    ready: those that are there from the start, that of one item among them. later: the rungs that are compiled on a
    thread of their own the first time that a batch has so many items, which runs in smaller pieces until then.
    compile_for: makes and warms up the graph of a rung; it may raise RuntimeError or OSError.
    """

    def __init__(self, ready: Mapping[int, G], later: Sequence[int], compile_for: Callable[[int], G]) -> None:
        self._first = dict(ready)
        self._later = frozenset(later)  # replaced, never changed, like the graphs
        self._compile_for = compile_for
        self._graphs = dict(ready)
        self._lock = threading.Lock()
        self._growth: threading.Thread | None = None
        self._closed = False

    def cut(self, count: int) -> list[tuple[G, slice]]:
        """The pieces that a batch of `count` items runs in, and the graph of each."""
        graphs = self._graphs
        if lacking := [rung for rung in self._later if rung <= count and rung not in graphs]:
            self._want(max(lacking))
        return [(graphs[stop - start], slice(start, stop)) for start, stop in cut_into_rungs(count, sorted(graphs))]

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

    def _want(self, rung: int) -> None:
        with self._lock:
            if self._growth is not None or self._closed:
                return  # one after the other: compiling takes a core
            if rung in self._graphs or rung not in self._later:
                return  # it has come since, or failed
            # No daemon: the interpreter must not end under a compiler.
            self._growth = threading.Thread(target=self._grow, args=(rung,), name=f"posewire-rung-{rung}")
            self._growth.start()

    def _grow(self, rung: int) -> None:
        try:
            graph = self._compile_for(rung)
        except (RuntimeError, OSError):
            logger.exception("the graph for batches of %d cannot be compiled; they run in smaller pieces", rung)
            with self._lock:
                self._later -= {rung}
                self._growth = None
            return
        with self._lock:
            self._graphs = {**self._graphs, rung: graph}
            self._growth = None
