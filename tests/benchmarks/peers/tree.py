"""A server and its child processes: their total cost, and stopping them while others are measured."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class ProcessTree:
    """The process `root` and its descendants."""

    def __init__(self, root: int) -> None:
        self._root = root

    def cpu_seconds(self) -> float:
        """Processor time so far, of the running processes."""
        return sum(_ticks(pid) for pid in self._pids()) * _TICK_S

    def memory_mb(self) -> float:
        """Resident memory now, megabytes; shared pages count once (proportional set size)."""
        return sum(_pss_kb(pid) for pid in self._pids()) / 1e3

    def freeze(self) -> None:
        """Stop all processes, because some servers poll while idle."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue the processes."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End all processes."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
                os.kill(pid, number)

    def _pids(self) -> list[int]:
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").glob("[0-9]*"):
            fields = _stat(int(entry.name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
        found = [self._root] if _stat(self._root) else []
        for pid in found:  # grows while it is walked
            found += children.get(pid, [])
        return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on (proc(5), number 3); empty if the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return []


def _ticks(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
