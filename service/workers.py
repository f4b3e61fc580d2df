"""Several server processes on one port: started, placed on cores of their own, and replaced when they die."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise

from prometheus_client.multiprocess import mark_process_dead
from uvicorn.supervisors import Multiprocess

_TURN_S = 0.2
"""How long a signal may wait while workers are ending."""


def core_groups(cores: Sequence[int], workers: int) -> list[set[int]]:
    """The cores that each of so many workers gets: as even as can be, neighbours together, shared where too few."""
    if workers >= len(cores):
        return [{cores[n % len(cores)]} for n in range(workers)]
    bounds = [n * len(cores) // workers for n in range(workers + 1)]
    return [set(cores[low:high]) for low, high in pairwise(bounds)]


class Workers(Multiprocess):
    """uvicorn's supervisor, whose workers do not compete for cores and leave nothing behind."""

    def init_processes(self) -> None:
        """Start them."""
        super().init_processes()
        self._groups = core_groups(sorted(os.sched_getaffinity(0)), self.processes_num)
        self._place(set())

    def keep_subprocess_alive(self) -> None:
        """Replace those that died or hang."""
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]  # its gauges would count for ever
        self._place(before)

    def terminate_all(self) -> None:
        """Tell them to end. Who still comes once they take nobody is refused, and need not wait for the slowest."""
        super().terminate_all()
        for listening in self.sockets:
            listening.close()

    def join_all(self) -> None:
        """Wait until all have ended. A signal that comes meanwhile is told to them too, and makes them hurry."""
        for process in self.processes:
            while process.exitcode is None:
                process.process.join(_TURN_S)
                if self.signal_queue:
                    self.signal_queue.clear()
                    super().terminate_all()

    def _place(self, placed: set[int | None]) -> None:
        """Put new workers on their cores, long before they open a network, which counts what it may use."""
        for number, process in enumerate(self.processes):
            if process.pid is not None and process.pid not in placed:
                os.sched_setaffinity(process.pid, self._groups[number % len(self._groups)])
