"""Frames that two processes see at once, without a copy between them."""

from __future__ import annotations

import mmap
import os
import tempfile

import numpy as np
from numpy.typing import NDArray

from engines.poses import Frame


class Arena:
    """Memory of so many slots, each for one frame of at most `slot_bytes`. fd: to open the same memory elsewhere.

    Only what was written takes memory, until it is cleared: slots may be many and large.
    """

    def __init__(self, slots: int, slot_bytes: int, fd: int | None = None) -> None:
        """fd: of an arena of the same measures in another process; None makes one."""
        self._slot_bytes = -(-slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self.fd = _anonymous(slots * self._slot_bytes) if fd is None else fd
        self._memory = mmap.mmap(self.fd, slots * self._slot_bytes)

    def write(self, slot: int, frame: Frame) -> None:
        """Put a frame into a slot. Raises ValueError for one that is too large."""
        if frame.nbytes > self._slot_bytes:
            raise ValueError(f"a frame of {frame.nbytes} bytes does not fit {self._slot_bytes}")
        self.read(slot, frame.shape)[...] = frame

    def read(self, slot: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """What is in a slot, of the given shape: no copy, so the next frame replaces it."""
        return np.ndarray(shape, np.uint8, self._memory, slot * self._slot_bytes)

    def clear(self, slot: int) -> None:
        """Give back the memory of a slot."""
        if hasattr(mmap, "MADV_REMOVE"):
            self._memory.madvise(mmap.MADV_REMOVE, slot * self._slot_bytes, self._slot_bytes)

    def close(self) -> None:
        """Let go of the memory."""
        os.close(self.fd)
        self._memory.close()


def _anonymous(size: int) -> int:
    """The descriptor of memory without a name: it goes with the last process that has it."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("posewire-frames")  # unlike /dev/shm, of which containers have 64 MB by default
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd
