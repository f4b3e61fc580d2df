"""Batches through a network whose outputs are as large as what it finds: no graph then, and no filling up.

Suppression of boxes, or the places that are not zero: how much comes out is known only when it has been computed. The
device asks for memory in between, and the copy back is queued when the size is known.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.runtimes.base import Arrays, TensorSpec, cut_into_batch_sizes, join_rungs
from engines.runtimes.tensorrt.driver import Driver
from engines.runtimes.tensorrt.staging import Layout


class GrowingOutput:
    """Device memory that becomes as large as the largest output so far."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._capacity = 0
        self.address = 0
        self.shape: tuple[int, ...] = ()

    def reserve(self, size: int) -> int:
        """Memory of at least `size` bytes; what was in it is lost."""
        if size > self._capacity or not self.address:
            self.free()
            self.address = self._driver.allocate(size)
            self._capacity = size
        return self.address

    def free(self) -> None:
        """Give the memory back."""
        if self.address:
            self._driver.free(self.address)
        self.address = self._capacity = 0


UnsizedBinding = Callable[[int, Mapping[str, int], Mapping[str, GrowingOutput]], Callable[[int], None]]
"""A rung, the device addresses of the inputs, and where each output goes, to what queues it on a stream."""


class Unsized:
    """One network, a batch at a time. A batch runs as whole rungs, as rows that fill it up would give rows, too."""

    count = 1

    def __init__(
        self,
        driver: Driver,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        batch_sizes: Sequence[int],
        bind: UnsizedBinding,
    ) -> None:
        self._driver = driver
        self._batch_sizes = tuple(batch_sizes)
        self._dtypes = {spec.name: spec.dtype for spec in outputs}
        self._inputs = Layout.of(inputs, batch_sizes[-1])
        self._busy = threading.Lock()
        driver.use()
        with ExitStack() as opened:
            self._stream = driver.open_stream()
            opened.callback(driver.close_stream, self._stream)
            self._host = driver.pin(self._inputs.size)
            opened.callback(driver.unpin, self._host)
            self._device = driver.allocate(self._inputs.size)
            opened.callback(driver.free, self._device)
            self._outputs = {name: GrowingOutput(driver) for name in self._dtypes}
            for output in self._outputs.values():
                opened.callback(output.free)
            addresses = self._inputs.addresses(self._device)
            self._works = {batch_size: bind(batch_size, addresses, self._outputs) for batch_size in batch_sizes}
            self._held = opened.pop_all()
        self._feeds = self._inputs.views(self._host.array)

    def run(self, feeds: Arrays, count: int) -> dict[str, NDArray[Any]]:
        """Run one batch of `count` items; the arrays returned are the caller's."""
        with self._busy:
            self._driver.use()
            parts = [
                self._run({name: array[start:stop] for name, array in feeds.items()}, stop - start)
                for start, stop in cut_into_batch_sizes(count, self._batch_sizes)
            ]
        if len(parts) == 1:
            return parts[0]
        return {name: join_rungs([part[name] for part in parts]) for name in parts[0]}

    def close(self) -> None:
        """Give back all that is held of the device. No call may be under way."""
        self._driver.use()
        self._held.close()

    def _run(self, feeds: Arrays, batch_size: int) -> dict[str, NDArray[Any]]:
        for field in self._inputs.fields:
            np.copyto(self._feeds[field.name][:batch_size], feeds[field.name])
            at, size = field.offset, field.item * batch_size
            self._driver.copy_in(self._device + at, self._host.address + at, size, self._stream)
        self._works[batch_size](self._stream)
        self._driver.finish(self._stream)
        return {name: self._fetch(self._outputs[name], dtype) for name, dtype in self._dtypes.items()}

    def _fetch(self, output: GrowingOutput, dtype: np.dtype[np.generic]) -> NDArray[Any]:
        size = math.prod(output.shape) * dtype.itemsize
        if not size:
            return np.zeros(output.shape, dtype)
        pinned = self._driver.pin(size)
        try:
            self._driver.copy_out(pinned.address, output.address, size, self._stream)
            self._driver.finish(self._stream)
            return np.array(pinned.array.view(dtype).reshape(output.shape))
        finally:
            self._driver.unpin(pinned)
