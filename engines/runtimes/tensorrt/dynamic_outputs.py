"""Runs batches through a network whose output sizes depend on the data, such as box suppression or non-zero search.

The sizes are only known once they have been computed. So there is no CUDA graph and no padding: the device asks for
memory while it runs, and the copy back is queued when the size is known.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.inputs import Arrays, TensorSpec
from engines.runtimes.base import cut_into_batch_sizes, join_batches
from engines.runtimes.tensorrt.driver import BufferLayout, Driver


class OutputBuffer:
    """Device memory that grows to the largest output so far."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._capacity = 0
        self.address = 0
        self.shape: tuple[int, ...] = ()

    def reserve(self, size: int) -> int:
        """Return the address of at least `size` bytes; earlier contents are lost."""
        if size > self._capacity or not self.address:
            self.free()
            self.address = self._driver.allocate(size)
            self._capacity = size
        return self.address

    def free(self) -> None:
        """Free the memory."""
        if self.address:
            self._driver.free(self.address)
        self.address = self._capacity = 0


DynamicBinding = Callable[[int, Mapping[str, int], Mapping[str, OutputBuffer]], Callable[[int], None]]
"""Called with a batch size, the device addresses of the inputs and a buffer for each output.

Returns a function that queues the network on a stream.
"""


class DynamicPipeline:
    """Runs one batch of one network at a time.

    A batch is split into the compiled batch sizes, because padding would yield detections.
    """

    concurrency = 1

    def __init__(
        self,
        driver: Driver,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        batch_sizes: Sequence[int],
        bind: DynamicBinding,
    ) -> None:
        self._driver = driver
        self._batch_sizes = tuple(batch_sizes)
        self._dtypes = {spec.name: spec.dtype for spec in outputs}
        self._inputs = BufferLayout.of(inputs, batch_sizes[-1])
        self._busy = threading.Lock()
        driver.make_current()
        with ExitStack() as opened:
            self._stream = driver.open_stream()
            opened.callback(driver.close_stream, self._stream)
            self._host = driver.pin(self._inputs.size)
            opened.callback(driver.unpin, self._host)
            self._device = driver.allocate(self._inputs.size)
            opened.callback(driver.free, self._device)
            self._outputs = {name: OutputBuffer(driver) for name in self._dtypes}
            for output in self._outputs.values():
                opened.callback(output.free)
            addresses = self._inputs.addresses(self._device)
            self._enqueue = {batch_size: bind(batch_size, addresses, self._outputs) for batch_size in batch_sizes}
            self._resources = opened.pop_all()
        self._feeds = self._inputs.views(self._host.array)

    def run(self, feeds: Arrays, count: int) -> dict[str, NDArray[Any]]:
        """Run one batch of `count` items. The returned arrays belong to the caller."""
        with self._busy:
            self._driver.make_current()
            parts = [
                self._run({name: array[start:stop] for name, array in feeds.items()}, stop - start)
                for start, stop in cut_into_batch_sizes(count, self._batch_sizes)
            ]
        if len(parts) == 1:
            return parts[0]
        return {name: join_batches([part[name] for part in parts]) for name in parts[0]}

    def close(self) -> None:
        """Free all device resources. No call may be under way."""
        self._driver.make_current()
        self._resources.close()

    def _run(self, feeds: Arrays, batch_size: int) -> dict[str, NDArray[Any]]:
        for field in self._inputs.fields:
            np.copyto(self._feeds[field.name][:batch_size], feeds[field.name])
            at, size = field.offset, field.item_size * batch_size
            self._driver.copy_to_device(self._device + at, self._host.address + at, size, self._stream)
        self._enqueue[batch_size](self._stream)
        self._driver.synchronize(self._stream)
        return {name: self._fetch(self._outputs[name], dtype) for name, dtype in self._dtypes.items()}

    def _fetch(self, output: OutputBuffer, dtype: np.dtype[np.generic]) -> NDArray[Any]:
        size = math.prod(output.shape) * dtype.itemsize
        if not size:
            return np.zeros(output.shape, dtype)
        pinned = self._driver.pin(size)
        try:
            self._driver.copy_to_host(pinned.address, output.address, size, self._stream)
            self._driver.synchronize(self._stream)
            return np.array(pinned.array.view(dtype).reshape(output.shape))
        finally:
            self._driver.unpin(pinned)
