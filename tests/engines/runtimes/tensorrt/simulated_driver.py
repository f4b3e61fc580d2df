"""A simulated device for tests of ordering: it runs queued work as late as allowed, and streams in any order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.runtimes.tensorrt.driver import CudaError, Pinned

_FAR_APART = 1 << 24


@dataclass(frozen=True, slots=True)
class _Wait:
    """Blocks a stream until an event has happened."""

    event: int

    def __call__(self) -> None:
        """Nothing to do."""


class SimulatedDriver:
    """Memory at made-up addresses. Queued work only runs when a stream is synchronized, interleaved with other streams.

    broken: the error that the next `synchronize` raises. held: resources that have not been freed, with their kind.
    """

    def __init__(self, seed: int = 0) -> None:
        self.broken: CudaError | None = None
        self.held: set[tuple[str, int]] = set()
        self._rng = np.random.default_rng(seed)
        self._memory: dict[int, NDArray[np.uint8]] = {}
        self._streams: dict[int, deque[Callable[[], None]]] = {}
        self._graphs: dict[int, list[Callable[[], None]]] = {}
        self._recording: dict[int, list[Callable[[], None]]] = {}
        self._last = 0
        self._waits = 0
        self._happened: set[int] = set()
        self._lock = threading.RLock()
        self._current = threading.local()

    def make_current(self) -> None:
        self._current.here = True

    def allocate(self, size: int) -> int:
        return self._new("memory", np.full(size, 0xAA, np.uint8))

    def free(self, address: int) -> None:
        self._end("memory", address)
        del self._memory[address]

    def pin(self, size: int) -> Pinned:
        array = np.full(size, 0xBB, np.uint8)
        return Pinned(self._new("pinned", array), array)

    def unpin(self, memory: Pinned) -> None:
        self._end("pinned", memory.address)
        del self._memory[memory.address]

    def open_stream(self) -> int:
        stream = self._begin("stream")
        self._streams[stream] = deque()
        return stream

    def close_stream(self, stream: int) -> None:
        assert not self._streams[stream], "a stream was closed with work on it"
        self._end("stream", stream)

    def copy_to_device(self, device: int, host: int, size: int, stream: int) -> None:
        self.queue(stream, lambda: self._copy(device, host, size))

    def copy_to_host(self, host: int, device: int, size: int, stream: int) -> None:
        self.queue(stream, lambda: self._copy(host, device, size))

    def copy_on_device(self, to: int, source: int, size: int, stream: int) -> None:
        self.queue(stream, lambda: self._copy(to, source, size))

    def wait_for_stream(self, stream: int, other: int) -> None:
        with self._lock:
            waits = self._waits = self._waits + 1
            self.queue(other, lambda: self._happened.add(waits))
            self._streams[stream].append(_Wait(waits))

    def capture(self, work: Callable[[], None], stream: int) -> int:
        graph = self._begin("graph")
        self._recording[stream] = self._graphs[graph] = []
        work()
        del self._recording[stream]
        return graph

    def launch(self, graph: int, stream: int) -> None:
        for each in self._graphs[graph]:
            self.queue(stream, each)

    def destroy_graph(self, graph: int) -> None:
        self._end("graph", graph)

    def synchronize(self, stream: int) -> None:
        assert self._current.here, "this thread has not said which device it uses"
        with self._lock:
            if self.broken is not None:
                error, self.broken = self.broken, None
                self._streams[stream].clear()
                raise error
            while self._streams[stream]:
                ready = [queue for queue in self._streams.values() if queue and self._may_run(queue[0])]
                ready[self._rng.integers(len(ready))].popleft()()

    def queue(self, stream: int, work: Callable[[], None]) -> None:
        """Queue `work` on a stream, like a kernel."""
        assert self._current.here, "this thread has not said which device it uses"
        with self._lock:
            self._recording.get(stream, self._streams[stream]).append(work)

    def at(self, address: int, size: int) -> NDArray[np.uint8]:
        """The memory at an address, which must be within one allocation."""
        base = max(start for start in self._memory if start <= address)
        piece = self._memory[base][address - base : address - base + size]
        assert len(piece) == size, "beyond the end of the memory"
        return piece

    def _may_run(self, work: Callable[[], None]) -> bool:
        return not isinstance(work, _Wait) or work.event in self._happened

    def _copy(self, to: int, source: int, size: int) -> None:
        self.at(to, size)[:] = self.at(source, size)

    def _new(self, kind: str, array: NDArray[np.uint8]) -> int:
        address = self._begin(kind)
        self._memory[address] = array
        return address

    def _begin(self, kind: str) -> int:
        with self._lock:
            self._last += _FAR_APART
            self.held.add((kind, self._last))
            return self._last

    def _end(self, kind: str, handle: int) -> None:
        with self._lock:
            self.held.remove((kind, handle))  # KeyError: freed twice, or never allocated
