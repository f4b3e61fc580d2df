"""Memory that two processes see, of which only what was written is taken."""

from __future__ import annotations

import mmap
import os
import sys

import numpy as np
import pytest

from service.following.arena import Arena


def pages(arena: Arena) -> int:
    """How many bytes of it are really there."""
    return os.fstat(arena.fd).st_blocks * 512


def test_another_process_reads_what_was_written() -> None:
    ours = Arena(3, 1000)
    theirs = Arena(3, 1000, os.dup(ours.fd))
    frames = [np.full((10, 10, 3), n, np.uint8) for n in range(3)]
    for slot, frame in enumerate(frames):
        ours.write(slot, frame)
    assert [theirs.read(slot, (10, 10, 3)).tolist() for slot in range(3)] == [frame.tolist() for frame in frames]
    theirs.close()
    ours.close()


def test_a_frame_that_is_too_large_harms_no_other() -> None:
    arena = Arena(2, mmap.PAGESIZE)
    arena.write(1, np.full((10, 10, 3), 7, np.uint8))
    with pytest.raises(ValueError, match="does not fit"):
        arena.write(0, np.zeros((100, 100, 3), np.uint8))
    assert (arena.read(1, (10, 10, 3)) == 7).all()
    arena.close()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep what was written")
def test_hundreds_of_slots_for_the_largest_frames_take_no_memory_until_written() -> None:
    arena = Arena(512, 75_000_000)
    assert pages(arena) == 0
    arena.write(500, np.ones((240, 320, 3), np.uint8))
    assert 0 < pages(arena) < 300_000
    arena.clear(500)
    assert pages(arena) == 0
    assert not arena.read(500, (240, 320, 3)).any()
    arena.close()
