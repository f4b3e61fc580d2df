"""What the slots of a compiled graph ask of a device: little enough that its order can be tested without one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Pinned:
    """Memory of the host that the device copies to and from by itself. array: all of it, as bytes."""

    address: int
    array: NDArray[np.uint8]


class Driver(Protocol):
    """Memory, streams and graphs of one device. Addresses and handles are whole numbers.

    What is queued on a stream runs in order; streams run beside each other.
    """

    def use(self) -> None:
        """Make this device the calling thread's; the other methods need it."""

    def allocate(self, size: int) -> int:
        """Memory of the device, aligned for every type."""

    def free(self, address: int) -> None:
        """Give memory of `allocate` back."""

    def pin(self, size: int) -> Pinned:
        """Memory of the host that can be copied while the device computes."""

    def unpin(self, memory: Pinned) -> None:
        """Give memory of `pin` back."""

    def open_stream(self) -> int:
        """A new stream."""

    def close_stream(self, stream: int) -> None:
        """End a stream on which nothing is queued."""

    def copy_in(self, device: int, host: int, size: int, stream: int) -> None:
        """Queue a copy from pinned memory to the device."""

    def copy_out(self, host: int, device: int, size: int, stream: int) -> None:
        """Queue a copy from the device to pinned memory."""

    def copy_within(self, to: int, source: int, size: int, stream: int) -> None:
        """Queue a copy from the device to itself."""

    def follow(self, stream: int, other: int) -> None:
        """What is queued on `stream` from now on waits for what is queued on `other` so far."""

    def capture(self, work: Callable[[], None], stream: int) -> int:
        """What `work` queues on `stream` as a graph; none of it runs."""

    def launch(self, graph: int, stream: int) -> None:
        """Queue a graph as a whole."""

    def drop_graph(self, graph: int) -> None:
        """Give a graph back that does not run."""

    def finish(self, stream: int) -> None:
        """Wait, asleep, until all that was queued on `stream` is done. Raises CudaError where some of it failed."""


class CudaError(RuntimeError):
    """The driver refused or failed; the message says what."""
