"""The device operations that running a plan needs, as a protocol that tests can simulate, and the layout of buffers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.inputs import TensorSpec


class CudaError(RuntimeError):
    """The CUDA driver refused a call or failed; the message says why."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """Page-locked host memory, which the device copies to and from asynchronously. array: all of it, as bytes."""

    address: int
    array: NDArray[np.uint8]


class Driver(Protocol):
    """Memory, streams and graphs of one device. Addresses and handles are integers.

    Work that is queued on one stream runs in order; different streams run concurrently.
    """

    def make_current(self) -> None:
        """Make this device the current one of the calling thread. The other methods require it."""

    def allocate(self, size: int) -> int:
        """Allocate device memory, aligned for every type."""

    def free(self, address: int) -> None:
        """Free memory from `allocate`."""

    def pin(self, size: int) -> Pinned:
        """Allocate host memory that can be copied while the device computes."""

    def unpin(self, memory: Pinned) -> None:
        """Free memory from `pin`."""

    def open_stream(self) -> int:
        """Create a stream."""

    def close_stream(self, stream: int) -> None:
        """Destroy a stream on which nothing is queued."""

    def copy_to_device(self, device: int, host: int, size: int, stream: int) -> None:
        """Queue a copy from pinned memory to the device."""

    def copy_to_host(self, host: int, device: int, size: int, stream: int) -> None:
        """Queue a copy from the device to pinned memory."""

    def copy_on_device(self, to: int, source: int, size: int, stream: int) -> None:
        """Queue a copy from the device to itself."""

    def wait_for_stream(self, stream: int, other: int) -> None:
        """Make work that is queued on `stream` from now on wait for the work queued on `other` so far."""

    def capture(self, work: Callable[[], None], stream: int) -> int:
        """Capture the work that `work` queues on `stream` as a graph, without running it."""

    def launch(self, graph: int, stream: int) -> None:
        """Queue a graph."""

    def destroy_graph(self, graph: int) -> None:
        """Free a graph that is not running."""

    def synchronize(self, stream: int) -> None:
        """Block, without spinning, until all work queued on `stream` is done. Raises CudaError if any of it failed."""


_ALIGNMENT = 256
"""Bytes; TensorRT's requirement for the address of a tensor."""


@dataclass(frozen=True, slots=True)
class TensorField:
    """One array of a batch. offset: of its first byte. item_size: bytes of one item."""

    name: str
    offset: int
    item_size: int
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


@dataclass(frozen=True, slots=True)
class BufferLayout:
    """Where the arrays of a batch lie in one buffer, at the same offsets on the host and on the device.

    The arrays have room for `max_batch` items each, one array after the other. A smaller batch uses the beginning of
    each. size: bytes of the whole buffer.
    """

    fields: tuple[TensorField, ...]
    size: int
    max_batch: int

    @classmethod
    def of(cls, specs: Sequence[TensorSpec], max_batch: int) -> BufferLayout:
        """The layout of arrays with these specs, whose dimensions must all be known."""
        fields = []
        end = 0
        for spec in specs:
            item_size = math.prod(spec.shape) * spec.dtype.itemsize
            fields.append(TensorField(spec.name, end, item_size, spec.shape, spec.dtype))
            end += -(-item_size * max_batch // _ALIGNMENT) * _ALIGNMENT
        return cls(tuple(fields), end, max_batch)

    def views(self, memory: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """The arrays within `memory`, each (max_batch, *shape)."""
        return {
            field.name: memory[field.offset : field.offset + field.item_size * self.max_batch]
            .view(field.dtype)
            .reshape(self.max_batch, *field.shape)
            for field in self.fields
        }

    def addresses(self, base: int) -> dict[str, int]:
        """The address of each array in a buffer that begins at `base`."""
        return {field.name: base + field.offset for field in self.fields}
