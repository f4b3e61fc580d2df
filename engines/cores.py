"""How many cores a process may keep busy: those of its affinity mask, or less where a container has a quota.

A container of two CPUs on a host of 64 sees all 64 cores. Threads for each would share what two can do, and stand
still together once it is spent. Python's os.process_cpu_count reads masks alone.
"""

from __future__ import annotations

import os
from math import ceil, inf
from pathlib import Path

from engines.control_groups import control_groups


def usable_cores(sharers: int = 1) -> int:
    """How many threads of one of `sharers` processes, which have the same quota, can compute at once; at least 1."""
    return max(1, ceil(min(len(os.sched_getaffinity(0)), cpu_quota() / sharers)))


def core_limit(sharers: int = 1) -> int | None:
    """`usable_cores` where a quota makes them fewer than the mask has, for who counts the mask by itself."""
    usable = usable_cores(sharers)
    return usable if usable < len(os.sched_getaffinity(0)) else None


def cpu_quota(root: Path = Path("/")) -> float:
    """The CPUs that this process's control group (v1 or v2) and those around it grant, inf without a limit.

    root: where /proc and /sys are.
    """
    return min([_granted(group) for group in control_groups("cpu", root)], default=inf)


def _granted(group: Path) -> float:
    """The CPUs that one control group grants by itself."""
    try:
        if (both := group / "cpu.max").exists():
            quota, period = both.read_text("utf-8").split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text("utf-8").strip() for name in ("quota", "period"))
    except OSError:
        return inf
    return inf if quota in ("max", "-1") else int(quota) / int(period)
