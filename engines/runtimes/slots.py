"""Batches that pass through a device side by side: while one computes, the arrays of another are copied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.runtimes.base import Arrays, TensorSpec
from engines.runtimes.driver import Driver
from engines.runtimes.staging import Layout

Enqueue = Callable[[int], None]
"""Queues a network's kernels for one rung on a stream; where its arrays are, it has been told."""
Binding = Callable[[int, Mapping[str, int], int], tuple[Enqueue, bool]]
"""A rung, the device addresses of all arrays by name and a stream to what queues it, and whether that can be captured.
"""


class Slots:
    """`count` slots in front of one network. A batch is filled up to the next rung, as shapes are fixed.

    bind: called for each slot, with the driver in use, for how this slot runs a rung; whatever it opened for it must
    stay until `close` has returned.
    """

    def __init__(
        self,
        driver: Driver,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        rungs: Sequence[int],
        binds: Sequence[Binding],
    ) -> None:
        self.count = len(binds)
        self._driver = driver
        self._rungs = tuple(rungs)
        self._idle: SimpleQueue[_Slot] = SimpleQueue()
        self._held = ExitStack()
        driver.use()
        with ExitStack() as opened:  # what has been opened is closed again where a later one fails
            for bind in binds:
                slot = _Slot(driver, Layout.of(inputs, rungs[-1]), Layout.of(outputs, rungs[-1]), opened)
                for rung in reversed(self._rungs):  # the largest first: what it needs is enough for the others
                    slot.prepare(rung, bind)
                self._idle.put(slot)
            self._held = opened.pop_all()

    def run(self, feeds: Arrays, count: int) -> dict[str, NDArray[Any]]:
        """Run one batch of `count` items on the next free slot; the arrays returned are the caller's."""
        rung = next(rung for rung in self._rungs if rung >= count)
        slot = self._idle.get()
        try:
            return slot.run(feeds, count, rung)
        finally:
            self._idle.put(slot)

    def close(self) -> None:
        """Give back all that the slots hold of the device. No call may be under way."""
        self._driver.use()
        self._held.close()


class _Slot:
    """A stream, memory for the largest batch on both sides, and a graph for each rung."""

    def __init__(self, driver: Driver, inputs: Layout, outputs: Layout, held: ExitStack) -> None:
        self._driver = driver
        self._held = held
        self._inputs, self._outputs = inputs, outputs
        self._stream = driver.open_stream()
        held.callback(driver.close_stream, self._stream)
        self._host_inputs, self._host_outputs = (driver.pin(layout.size) for layout in (inputs, outputs))
        held.callback(driver.unpin, self._host_inputs)
        held.callback(driver.unpin, self._host_outputs)
        self._device_inputs, self._device_outputs = (driver.allocate(layout.size) for layout in (inputs, outputs))
        held.callback(driver.free, self._device_inputs)
        held.callback(driver.free, self._device_outputs)
        self._feeds = inputs.views(self._host_inputs.array)
        self._results = outputs.views(self._host_outputs.array)
        self._graphs: dict[int, int] = {}
        self._works: dict[int, Callable[[], None]] = {}

    def prepare(self, rung: int, bind: Binding) -> None:
        """Run a rung once, as libraries load their kernels at the first time, and capture it where that can be."""
        arrays = self._inputs.addresses(self._device_inputs) | self._outputs.addresses(self._device_outputs)
        enqueue, capturable = bind(rung, arrays, self._stream)

        def work() -> None:
            self._queue(rung, enqueue)

        work()
        self._driver.finish(self._stream)
        self._works[rung] = work
        if capturable:
            graph = self._graphs[rung] = self._driver.capture(work, self._stream)
            self._held.callback(self._driver.drop_graph, graph)

    def run(self, feeds: Arrays, count: int, rung: int) -> dict[str, NDArray[Any]]:
        for name, staging in self._feeds.items():
            np.copyto(staging[:count], feeds[name])
        self._driver.use()
        if rung in self._graphs:
            self._driver.launch(self._graphs[rung], self._stream)
        else:
            self._works[rung]()
        self._driver.finish(self._stream)
        return {name: np.array(result[:count]) for name, result in self._results.items()}

    def _queue(self, rung: int, enqueue: Enqueue) -> None:
        for field in self._inputs.fields:
            self._driver.copy_in(
                self._device_inputs + field.offset,
                self._host_inputs.address + field.offset,
                field.item * rung,
                self._stream,
            )
        enqueue(self._stream)
        for field in self._outputs.fields:
            self._driver.copy_out(
                self._host_outputs.address + field.offset,
                self._device_outputs + field.offset,
                field.item * rung,
                self._stream,
            )
