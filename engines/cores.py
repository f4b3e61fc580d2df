"""The number of cores that a process can use: those of its affinity mask, or fewer if its container has a quota.

A container with two CPUs on a host with 64 cores sees all 64. With 64 threads it would spend its quota early in each
period and then be throttled. Python's os.process_cpu_count only reads the affinity mask.
"""

from __future__ import annotations

import os
from math import ceil, inf
from pathlib import Path

from engines.control_groups import control_groups


def usable_cores(sharers: int = 1) -> int:
    """The number of threads, at least 1, that can compute at once in one of `sharers` processes that share a quota."""
    return max(1, ceil(min(len(os.sched_getaffinity(0)), cpu_quota() / sharers)))


def core_limit(sharers: int = 1) -> int | None:
    """`usable_cores` if a quota makes it smaller than the affinity mask, which libraries read themselves; else None."""
    usable = usable_cores(sharers)
    return usable if usable < len(os.sched_getaffinity(0)) else None


def cpu_quota(root: Path = Path("/")) -> float:
    """The lowest CPU quota of this process's control group (v1 or v2) and its parents; inf without a limit.

    root: the folder that contains /proc and /sys.
    """
    return min([_quota(group) for group in control_groups("cpu", root)], default=inf)


def _quota(group: Path) -> float:
    """The CPU quota of one control group."""
    try:
        if (both := group / "cpu.max").exists():
            quota, period = both.read_text("utf-8").split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text("utf-8").strip() for name in ("quota", "period"))
    except OSError:
        return inf
    return inf if quota in ("max", "-1") else int(quota) / int(period)
