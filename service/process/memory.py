"""The memory of a server process: how much it may use, how the C library keeps it, and what lies on huge pages."""

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
"""More than the frames that pipelines usually ask for, which are reused at no cost; larger ones have to be mapped."""

_MADV_HUGEPAGE, _MADV_COLLAPSE = 14, 25  # mman-common.h
_KERNEL = Path("/sys/kernel/mm/transparent_hugepage")
_PROCESS = Path("/proc/self")
_PRESENT = np.uint64(1 << 63)  # of an entry of /proc/self/pagemap
_FULL = 0.9
"""Of a huge page, how much has to be in use already: the rest of it is what moving there adds to the process."""


def memory_limit(root: Path = Path("/")) -> int:
    """The bytes that this process may use together with the others of its container: the smallest limit of its control
    groups, or the machine's memory where none is smaller. root: where /proc and /sys are.
    """
    machine = os.sysconf("SC_PHYS_PAGES") * PAGESIZE
    return min([machine, *(_granted(group) for group in control_groups("memory", root))])


def _granted(group: Path) -> int:
    """The bytes that one control group grants by itself; more than any machine has where it sets no limit."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        try:
            limit = (group / name).read_text("utf-8").strip()
        except OSError:
            continue
        return sys.maxsize if limit == "max" else int(limit)
    return sys.maxsize


def bound_pools() -> None:
    """Let threads share two of the C library's memory pools (glibc), where each would keep what it once needed, and
    keep large arrays out of them, which then go back to the system at once.

    Shared pools save 20 of 330 MB with the default model. Without a fixed threshold glibc would raise its own, up to
    32 MB, with each large picture that is freed: a server of 175 MB kept 300 after some, and 200 with it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 4 * _LARGE_BYTES)


def use_huge_pages() -> None:
    """Move this process's memory onto huge pages where they are full, on systems that have some to give: Linux 6.1 and
    later, where no administrator turned them off.

    With each batch a network empties the processor's caches, of addresses too, and in small pages the weights and
    Python's objects have tens of thousands of those. Looking them up takes longest on virtual machines, and most of a
    request that comes alone.
    May be called from any thread at any time; it takes some tenths of a second of one core.
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
    """Where huge pages of this size could be, or are, full of the process's own data: addresses and lengths in bytes of
    runs of them, as each call of `madvise` waits for all cores.
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
