"""Memory that two processes share, as large as the frames in it."""

from __future__ import annotations

import gc
import mmap
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.tracking_workers.arena import Arena

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not free the pages")


def pages(arena: Arena) -> int:
    """Return how many bytes are allocated."""
    return os.fstat(arena.fd).st_blocks * 512


def mapped(fd: int) -> int:
    """Return how many bytes of the memory this process has mapped."""
    inode = str(os.fstat(fd).st_ino)
    fields = (line.split() for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines())
    ranges = (f[0].split("-") for f in fields if f[4] == inode)
    return sum(int(high, 16) - int(low, 16) for low, high in ranges)


def grey(height: int, width: int, level: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), level, np.uint8)


def test_another_process_reads_what_was_written() -> None:
    ours = Arena(1000)
    theirs = Arena(1000, os.dup(ours.fd))
    frames = [grey(10, 10, n) for n in range(3)]
    offsets = [ours.write(owner, frame) for owner, frame in enumerate(frames)]
    read = [theirs.read(offset, (10, 10, 3)) for offset in offsets]
    assert [each.tolist() for each in read] == [frame.tolist() for frame in frames]
    theirs.close()
    ours.close()


def test_a_frame_that_is_too_large_overwrites_no_other() -> None:
    arena = Arena(mmap.PAGESIZE)
    offset = arena.write(1, grey(10, 10, 7))
    with pytest.raises(ValueError, match="does not fit"):
        arena.write(0, grey(100, 100, 0))
    assert (arena.read(offset, (10, 10, 3)) == 7).all()
    arena.close()


def test_frames_that_grow_and_shrink_overwrite_no_other() -> None:
    rng = np.random.default_rng(3)
    arena = Arena(3_000_000)
    theirs = Arena(3_000_000, os.dup(arena.fd))
    offsets: dict[int, int] = {}
    shapes: dict[int, tuple[int, int, int]] = {}
    for turn in range(100):
        owner = int(rng.integers(8))
        if rng.random() < 0.2:
            arena.clear(owner)
            offsets.pop(owner, None)
            continue
        shapes[owner] = int(rng.integers(1, 1000)), int(rng.integers(1, 1000)), 3
        offsets[owner] = arena.write(owner, np.full(shapes[owner], owner + 10 * (turn % 20), np.uint8))
        for other, offset in offsets.items():
            assert (theirs.read(offset, shapes[other]) % 10 == other).all()
    used = sum(int(np.prod(shapes[owner])) for owner in offsets)
    assert pages(arena) <= 2 * used + 8 * mmap.PAGESIZE
    assert os.fstat(arena.fd).st_size < 8 * 3_000_000 * 2
    theirs.close()
    arena.close()


@linux
def test_memory_is_only_used_for_the_frames_in_it() -> None:
    arena = Arena(75_000_000)
    assert pages(arena) == mapped(arena.fd) == 0
    offset = arena.write(500, np.ones((240, 320, 3), np.uint8))
    assert 0 < pages(arena) < 300_000
    assert 0 < mapped(arena.fd) < 300_000
    arena.clear(500)
    assert pages(arena) == 0
    assert not arena.read(offset, (240, 320, 3)).any()
    for owner in range(1000):  # one after the other
        arena.write(owner, grey(240, 320, 1))
        arena.clear(owner)
    assert pages(arena) == 0
    assert mapped(arena.fd) < 300_000
    arena.close()


@linux
def test_a_smaller_frame_frees_the_memory_of_a_larger_one() -> None:
    arena = Arena(75_000_000)
    arena.write(0, grey(4000, 4000, 1))
    arena.write(0, grey(10, 10, 1))
    assert pages(arena) < 100_000
    arena.close()


def test_closing_leaves_nothing_open_though_a_frame_is_still_referenced() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    arena = Arena(1000)
    frame = arena.read(arena.write(0, grey(10, 10, 7)), (10, 10, 3))
    arena.close()
    arena.close()
    assert (frame == 7).all()
    del frame
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
