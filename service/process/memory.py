"""The memory of a server process: its limit, the C library's memory pools, and huge pages."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from mmap import PAGESIZE
from pathlib import Path

import numpy as np

from engines.control_groups import control_groups

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_LARGE_BYTES = 4 << 20
"""Larger than the frames that most pipelines use. Allocations up to this size are reused at no cost, larger ones are
mapped each time.
"""

_MADV_HUGEPAGE, _MADV_COLLAPSE = 14, 25  # mman-common.h
_KERNEL = Path("/sys/kernel/mm/transparent_hugepage")
_PROCESS = Path("/proc/self")
_PRESENT = np.uint64(1 << 63)  # of an entry of /proc/self/pagemap
_FULL = 0.9
"""The share of a huge page that must be in use already. Moving to the huge page adds the rest to the process."""


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


def use_huge_pages() -> None:
    """Move the well-used memory of this process onto huge pages (Linux 6.1 and later, unless they are turned off).

    Each batch of a network empties the processor's caches, the TLB among them. In small pages, the weights and
    Python's objects have tens of thousands of addresses to look up again, which is slowest on virtual machines, and
    delays requests that come alone the most. On huge pages, a request to a very light network that comes alone takes
    3.6 % less processor time, TinyPose 3 to 5 % less an inference, the networks of BlazePose 0 to 3 % less
    (`make bench ARGS=huge_pages`). Thread-safe. Takes some tenths of a second of one core.
    """
    try:
        if "[never]" in (_KERNEL / "enabled").read_text("ascii"):
            return
        size = int((_KERNEL / "hpage_pmd_size").read_text("ascii"))
        runs = list(_full_runs(size))
    except OSError:
        return
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    for start, length in runs:
        madvise(start, length, _MADV_HUGEPAGE)
        madvise(start, length, _MADV_COLLAPSE)


def _full_runs(size: int) -> Iterator[tuple[int, int]]:
    """Return the address ranges that fill, or could fill, huge pages of this size, as (address, length) in bytes.

    Neighbouring pages are joined, because each call of `madvise` waits for all cores.
    """
    with (_PROCESS / "pagemap").open("rb", buffering=0) as pagemap:
        for line in (_PROCESS / "maps").read_text("utf-8", "replace").splitlines():
            addresses, access, _, _, inode, *_ = line.split()
            if inode != "0" or access != "rw-p":
                continue
            low, high = (int(address, 16) for address in addresses.split("-"))
            low = -(-low // size) * size
            count = max(0, high - low) // size
            pagemap.seek(low // PAGESIZE * _PRESENT.nbytes)
            pages = np.frombuffer(pagemap.read(count * size // PAGESIZE * _PRESENT.nbytes), np.uint64)
            full = (pages & _PRESENT > 0).reshape(-1, size // PAGESIZE).mean(axis=1) >= _FULL
            edges = np.flatnonzero(np.diff(np.concatenate([[False], full, [False]]).astype(np.int8)))
            yield from ((low + size * int(a), size * int(b - a)) for a, b in edges.reshape(-1, 2))
