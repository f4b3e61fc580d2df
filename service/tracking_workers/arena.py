"""Frames that two processes see at once, without a copy between them."""

from __future__ import annotations

import mmap
import os
import tempfile

import numpy as np
from numpy.typing import NDArray

from engines.poses import Frame


class Arena:
    """Shared memory for one frame of each of several owners, as large as the frames in it are.

    The process that writes makes it, and tells the other one its `fd` and where each frame is.
    """

    def __init__(self, frame_bytes: int, fd: int | None = None) -> None:
        """frame_bytes: of the largest frame. fd: of an arena that another process has made; None makes one."""
        self.fd = _anonymous() if fd is None else fd
        self._frame_bytes = frame_bytes
        self._regions: dict[int, tuple[int, int]] = {}  # start and length, by owner
        self._memory: mmap.mmap | None = None

    def write(self, owner: int, frame: Frame) -> int:
        """Put an owner's frame in place of its last one. Returns the offset, for `read`.

        Raises ValueError for a frame that is too large, and OSError where there is no memory for it.
        """
        if frame.nbytes > self._frame_bytes:
            raise ValueError(f"a frame of {frame.nbytes} bytes does not fit {self._frame_bytes}")
        length = -(-max(1, frame.nbytes) // mmap.PAGESIZE) * mmap.PAGESIZE
        start, has = self._regions.get(owner, (0, 0))
        if not length <= has <= 2 * length:
            self.clear(owner)
            start = self._gap(length)
            self._regions[owner] = start, length
        self.read(start, frame.shape)[...] = frame
        return start

    def read(self, offset: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """The frame that was written there: no copy, so the owner's next frame may replace it."""
        end = offset + int(np.prod(shape))
        if self._memory is None or end > len(self._memory):
            end = -(-end // mmap.PAGESIZE) * mmap.PAGESIZE
            if os.fstat(self.fd).st_size < end:
                os.ftruncate(self.fd, end)  # never smaller: the other process may still look at what is gone
            self._memory = mmap.mmap(self.fd, end)  # the last one goes with the last array that lies in it
        return np.ndarray(shape, np.uint8, self._memory, offset)

    def clear(self, owner: int) -> None:
        """Give back the memory of an owner's frame."""
        start, length = self._regions.pop(owner, (0, 0))
        if length and self._memory is not None and hasattr(mmap, "MADV_REMOVE"):
            self._memory.madvise(mmap.MADV_REMOVE, start, length)

    def close(self) -> None:
        """Let go of the memory. Closing twice is fine."""
        self._memory = None
        self._regions.clear()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _gap(self, length: int) -> int:
        """Where so many bytes fit: between the regions if possible, as what is at the end makes the arena larger."""
        end = 0
        for start, has in sorted(self._regions.values()):
            if start - end >= length:
                break
            end = start + has
        return end


def _anonymous() -> int:
    """The descriptor of memory without a name: it goes with the last process that has it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("posewire-frames")  # unlike /dev/shm, of which containers have 64 MB by default
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
