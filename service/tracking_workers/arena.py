"""Shared memory that passes frames from one process to another without copying them through a socket."""

from __future__ import annotations

import mmap
import os
import tempfile

import numpy as np
from numpy.typing import NDArray

from engines.poses import Frame


class Arena:
    """Shared memory that holds one frame of each of several owners. It grows with the frames in it.

    The writing process creates it, and tells the reading process its `fd` and the offset of each frame.
    """

    def __init__(self, frame_bytes: int, fd: int | None = None) -> None:
        """frame_bytes: size of the largest frame. fd: of another process's arena, None for a new one."""
        self.fd = _anonymous() if fd is None else fd
        self._frame_bytes = frame_bytes
        self._regions: dict[int, tuple[int, int]] = {}  # start and length, by owner
        self._memory: mmap.mmap | None = None

    def write(self, owner: int, frame: Frame) -> int:
        """Replace an owner's frame. Returns its offset, for `read`.

        Raises ValueError if the frame is too large, and OSError if there is no memory for it.
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
        """Return a view of the frame at an offset. The owner's next frame may overwrite it."""
        end = offset + int(np.prod(shape))
        if self._memory is None or end > len(self._memory):
            end = -(-end // mmap.PAGESIZE) * mmap.PAGESIZE
            if os.fstat(self.fd).st_size < end:
                os.ftruncate(self.fd, end)  # never shrinks: the other process may still read beyond the new end
            self._memory = mmap.mmap(self.fd, end)  # the old map is freed with the last array that uses it
        return np.ndarray(shape, np.uint8, self._memory, offset)

    def clear(self, owner: int) -> None:
        """Free the memory of an owner's frame."""
        start, length = self._regions.pop(owner, (0, 0))
        if length and self._memory is not None and hasattr(mmap, "MADV_REMOVE"):
            self._memory.madvise(mmap.MADV_REMOVE, start, length)

    def close(self) -> None:
        """Release the memory. Closing twice is allowed."""
        self._memory = None
        self._regions.clear()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _gap(self, length: int) -> int:
        """Return the offset of the first gap of this length between the regions, or their end."""
        end = 0
        for start, has in sorted(self._regions.values()):
            if start - end >= length:
                break
            end = start + has
        return end


def _anonymous() -> int:
    """Open a file without a name, which is freed with the last process that has it open."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("posewire-frames")  # /dev/shm would be limited to 64 MB in containers by default
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
