"""Runs batches concurrently on one device: while one computes, the arrays of another are copied."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.inputs import Arrays, TensorSpec
from engines.runtimes.tensorrt.driver import BufferLayout, Driver, Pinned

logger = logging.getLogger(__name__)

Enqueue = Callable[[int], None]
"""Queues a network's kernels for one batch size on a stream; the addresses of its arrays are bound already."""
Binding = Callable[[int, Mapping[str, int], int], tuple[Enqueue, bool]]
"""Called with a batch size, the device addresses of all arrays by name and a stream.

Returns the function that queues the network, and True if it can be captured as a graph.
"""


class BatchPipeline:
    """Runs up to `concurrency` batches of one network at once. A batch is padded to the next compiled batch size.

    binds: one for each concurrent batch. Each is called for every batch size, with the device current. Whatever it
    opens must stay open until `close` has returned.
    """

    def __init__(
        self,
        driver: Driver,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        batch_sizes: Sequence[int],
        binds: Sequence[Binding],
    ) -> None:
        self.concurrency = len(binds)
        self._driver = driver
        self._batch_sizes = tuple(batch_sizes)
        self._idle: SimpleQueue[_Executor] = SimpleQueue()
        self._resources = ExitStack()
        self._streams: list[int] = []
        driver.make_current()
        with ExitStack() as opened:  # closes what has been opened if a later step fails
            for bind in binds:
                executor = _Executor(
                    driver, BufferLayout.of(inputs, batch_sizes[-1]), BufferLayout.of(outputs, batch_sizes[-1]), opened
                )
                for batch_size in reversed(self._batch_sizes):  # the largest first: its memory suffices for the others
                    executor.prepare(batch_size, bind)
                self._streams.append(executor.stream)
                self._idle.put(executor)
            self._resources = opened.pop_all()

    def run(self, feeds: Arrays, count: int) -> dict[str, NDArray[Any]]:
        """Run one batch of `count` items. The returned arrays belong to the caller."""
        batch_size = next(batch_size for batch_size in self._batch_sizes if batch_size >= count)
        executor = self._idle.get()
        try:
            return executor.run(feeds, count, batch_size)
        finally:
            self._idle.put(executor)

    def run_on_device(self, inputs: Mapping[str, int], outputs: Mapping[str, int], count: int, stream: int) -> None:
        """Like `run`, from and to device memory at these addresses, in order with the work on `stream`.

        Returns once the work is queued.
        """
        batch_size = next(batch_size for batch_size in self._batch_sizes if batch_size >= count)
        executor = self._idle.get()
        try:
            executor.run_on_device(inputs, outputs, count, batch_size, stream)
        finally:
            self._idle.put(executor)

    def close(self) -> None:
        """Free all device resources. No call may be under way."""
        self._driver.make_current()
        for stream in self._streams:
            self._driver.synchronize(stream)  # the work that `run_on_device` has queued
        self._streams.clear()
        self._resources.close()


class _Executor:
    """A stream, host and device buffers for the largest batch, and a graph for each batch size."""

    def __init__(self, driver: Driver, inputs: BufferLayout, outputs: BufferLayout, resources: ExitStack) -> None:
        self._driver = driver
        self._resources = resources
        self._inputs, self._outputs = inputs, outputs
        self.stream = driver.open_stream()
        resources.callback(driver.close_stream, self.stream)
        self._host_inputs, self._device_inputs = self._allocate(inputs.size)
        self._host_outputs, self._device_outputs = self._allocate(outputs.size)
        self._feeds = inputs.views(self._host_inputs.array)
        self._results = outputs.views(self._host_outputs.array)
        self._launches: dict[int, Callable[[], None]] = {}

    def _allocate(self, size: int) -> tuple[Pinned, int]:
        """Allocate a buffer on the host and on the device."""
        pinned = self._driver.pin(size)
        self._resources.callback(self._driver.unpin, pinned)
        memory = self._driver.allocate(size)
        self._resources.callback(self._driver.free, memory)
        return pinned, memory

    def prepare(self, batch_size: int, bind: Binding) -> None:
        """Run a batch size once, as libraries load kernels on the first run, and capture it as a graph if possible."""
        arrays = self._inputs.addresses(self._device_inputs) | self._outputs.addresses(self._device_outputs)
        enqueue, capturable = bind(batch_size, arrays, self.stream)
        enqueue(self.stream)
        self._driver.synchronize(self.stream)
        self._launches[batch_size] = lambda: enqueue(self.stream)
        if not capturable:
            return
        try:
            graph = self._driver.capture(lambda: enqueue(self.stream), self.stream)
        except RuntimeError as error:  # a layer waits for the host; any other error shows when it runs again
            logger.warning("batches of %d are run without a CUDA graph: %s", batch_size, error)
            enqueue(self.stream)
            self._driver.synchronize(self.stream)
            return
        self._resources.callback(self._driver.destroy_graph, graph)
        self._launches[batch_size] = lambda: self._driver.launch(graph, self.stream)

    def run(self, feeds: Arrays, count: int, batch_size: int) -> dict[str, NDArray[Any]]:
        for name, buffer in self._feeds.items():
            np.copyto(buffer[:count], feeds[name])
        driver = self._driver
        driver.make_current()
        for field in self._inputs.fields:
            at, size = field.offset, field.item_size * count
            driver.copy_to_device(self._device_inputs + at, self._host_inputs.address + at, size, self.stream)
        self._launches[batch_size]()
        for field in self._outputs.fields:
            at, size = field.offset, field.item_size * count
            driver.copy_to_host(self._host_outputs.address + at, self._device_outputs + at, size, self.stream)
        driver.synchronize(self.stream)
        return {name: np.array(result[:count]) for name, result in self._results.items()}

    def run_on_device(
        self, inputs: Mapping[str, int], outputs: Mapping[str, int], count: int, batch_size: int, stream: int
    ) -> None:
        driver = self._driver
        driver.make_current()
        driver.wait_for_stream(self.stream, stream)
        for field in self._inputs.fields:
            size = field.item_size * count
            driver.copy_on_device(self._device_inputs + field.offset, inputs[field.name], size, self.stream)
        self._launches[batch_size]()
        for field in self._outputs.fields:
            size = field.item_size * count
            driver.copy_on_device(outputs[field.name], self._device_outputs + field.offset, size, self.stream)
        driver.wait_for_stream(stream, self.stream)
