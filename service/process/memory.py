"""The memory of a server process: its limit and the C library's memory pools."""

from __future__ import annotations

import ctypes
import os
import sys
from mmap import PAGESIZE
from pathlib import Path

from engines.control_groups import control_groups

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_LARGE_BYTES = 4 << 20
"""Larger than the frames that most pipelines use. Allocations up to this size are reused at no cost, larger ones are
mapped each time.
"""


def memory_limit(root: Path = Path("/")) -> int:
    """Return the bytes that the processes of this container may use together.

    The smallest limit of the control groups, or the machine's memory if that is less. root: where /proc and /sys are.
    """
    machine = os.sysconf("SC_PHYS_PAGES") * PAGESIZE
    return min([machine, *(_group_limit(group) for group in control_groups("memory", root))])


def _group_limit(group: Path) -> int:
    """Return the memory limit of one control group in bytes, `sys.maxsize` without one."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        try:
            limit = (group / name).read_text("utf-8").strip()
        except OSError:
            continue
        return sys.maxsize if limit == "max" else int(limit)
    return sys.maxsize


def bound_pools() -> None:
    """Let all threads share two of glibc's memory pools, and keep large arrays out of them.

    With a pool for each thread, each keeps the most memory that it once needed; two shared pools save 20 of 330 MB
    with the default model. Arrays outside the pools go back to the system at once. Without a fixed threshold, glibc
    raises its own, up to 32 MB, whenever a large array is freed: after some large pictures a server of 175 MB kept
    300 MB, and with the threshold 200 MB.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 4 * _LARGE_BYTES)
