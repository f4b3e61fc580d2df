"""Batches that pass through a device side by side: while one computes, the arrays of another are copied."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.runtimes.base import Arrays, TensorSpec
from engines.runtimes.tensorrt.driver import Driver, Pinned
from engines.runtimes.tensorrt.staging import Layout

logger = logging.getLogger(__name__)

Enqueue = Callable[[int], None]
"""Queues a network's kernels for one rung on a stream; where its arrays are, it has been told."""
Binding = Callable[[int, Mapping[str, int], int], tuple[Enqueue, bool]]
"""A rung, the device addresses of all arrays by name and a stream to what queues it, and whether that can be captured.
"""


class BatchPipeline:
    """`count` slots in front of one network. A batch is filled up to the next rung, as shapes are fixed.

    bind: called for each slot, with the driver in use, for how this slot runs a rung; whatever it opened for it must
    stay until `close` has returned.
    """

    def __init__(
        self,
        driver: Driver,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        batch_sizes: Sequence[int],
        binds: Sequence[Binding],
    ) -> None:
        self.count = len(binds)
        self._driver = driver
        self._batch_sizes = tuple(batch_sizes)
        self._idle: SimpleQueue[_Slot] = SimpleQueue()
        self._held = ExitStack()
        self._streams: list[int] = []
        driver.use()
        with ExitStack() as opened:  # what has been opened is closed again where a later one fails
            for bind in binds:
                slot = _Slot(driver, Layout.of(inputs, batch_sizes[-1]), Layout.of(outputs, batch_sizes[-1]), opened)
                for batch_size in reversed(
                    self._batch_sizes
                ):  # the largest first: what it needs is enough for the others
                    slot.prepare(batch_size, bind)
                self._streams.append(slot.stream)
                self._idle.put(slot)
            self._held = opened.pop_all()

    def run(self, feeds: Arrays, count: int) -> dict[str, NDArray[Any]]:
        """Run one batch of `count` items on the next free slot; the arrays returned are the caller's."""
        batch_size = next(batch_size for batch_size in self._batch_sizes if batch_size >= count)
        slot = self._idle.get()
        try:
            return slot.run(feeds, count, batch_size)
        finally:
            self._idle.put(slot)

    def run_on_device(self, inputs: Mapping[str, int], outputs: Mapping[str, int], count: int, stream: int) -> None:
        """The same from and to device memory at these addresses, in the order of the work on `stream`.

        Returns when it is queued.
        """
        batch_size = next(batch_size for batch_size in self._batch_sizes if batch_size >= count)
        slot = self._idle.get()
        try:
            slot.run_on_device(inputs, outputs, count, batch_size, stream)
        finally:
            self._idle.put(slot)

    def close(self) -> None:
        """Give back all that the slots hold of the device. No call may be under way."""
        self._driver.use()
        for stream in self._streams:
            self._driver.finish(stream)  # what `run_on_device` has queued
        self._streams.clear()
        self._held.close()


class _Slot:
    """A stream, memory for the largest batch on both sides, and a graph for each rung."""

    def __init__(self, driver: Driver, inputs: Layout, outputs: Layout, held: ExitStack) -> None:
        self._driver = driver
        self._held = held
        self._inputs, self._outputs = inputs, outputs
        self.stream = driver.open_stream()
        held.callback(driver.close_stream, self.stream)
        self._host_inputs, self._device_inputs = self._take(inputs.size)
        self._host_outputs, self._device_outputs = self._take(outputs.size)
        self._feeds = inputs.views(self._host_inputs.array)
        self._results = outputs.views(self._host_outputs.array)
        self._launches: dict[int, Callable[[], None]] = {}

    def _take(self, size: int) -> tuple[Pinned, int]:
        """Memory on the host and on the device."""
        pinned = self._driver.pin(size)
        self._held.callback(self._driver.unpin, pinned)
        memory = self._driver.allocate(size)
        self._held.callback(self._driver.free, memory)
        return pinned, memory

    def prepare(self, batch_size: int, bind: Binding) -> None:
        """Run a rung once, as libraries load their kernels at the first time, and capture it where that can be."""
        arrays = self._inputs.addresses(self._device_inputs) | self._outputs.addresses(self._device_outputs)
        enqueue, capturable = bind(batch_size, arrays, self.stream)
        enqueue(self.stream)
        self._driver.finish(self.stream)
        self._launches[batch_size] = lambda: enqueue(self.stream)
        if not capturable:
            return
        try:
            graph = self._driver.capture(lambda: enqueue(self.stream), self.stream)
        except RuntimeError as error:  # a layer waits for the host; what else is wrong shows when it runs again
            logger.warning("batches of %d are run without a CUDA graph: %s", batch_size, error)
            enqueue(self.stream)
            self._driver.finish(self.stream)
            return
        self._held.callback(self._driver.drop_graph, graph)
        self._launches[batch_size] = lambda: self._driver.launch(graph, self.stream)

    def run(self, feeds: Arrays, count: int, batch_size: int) -> dict[str, NDArray[Any]]:
        for name, staging in self._feeds.items():
            np.copyto(staging[:count], feeds[name])
        driver = self._driver
        driver.use()
        for field in self._inputs.fields:
            at, size = field.offset, field.item * count
            driver.copy_in(self._device_inputs + at, self._host_inputs.address + at, size, self.stream)
        self._launches[batch_size]()
        for field in self._outputs.fields:
            at, size = field.offset, field.item * count
            driver.copy_out(self._host_outputs.address + at, self._device_outputs + at, size, self.stream)
        driver.finish(self.stream)
        return {name: np.array(result[:count]) for name, result in self._results.items()}

    def run_on_device(
        self, inputs: Mapping[str, int], outputs: Mapping[str, int], count: int, batch_size: int, stream: int
    ) -> None:
        driver = self._driver
        driver.use()
        driver.follow(self.stream, stream)
        for field in self._inputs.fields:
            size = field.item * count
            driver.copy_within(self._device_inputs + field.offset, inputs[field.name], size, self.stream)
        self._launches[batch_size]()
        for field in self._outputs.fields:
            size = field.item * count
            driver.copy_within(outputs[field.name], self._device_outputs + field.offset, size, self.stream)
        driver.follow(stream, self.stream)
