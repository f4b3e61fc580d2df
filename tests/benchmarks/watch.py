"""Memory and processor time of a server under load, sampled from outside."""

from __future__ import annotations

import threading
import time
from typing import Self

import numpy as np

from tests.servers import ServerProcess

_INTERVAL_S = 0.25
_SETTLED = 1 / 3
"""Share of the samples to leave out of the slope: memory grows at first, while caches fill and threads get arenas."""


class Watch:
    """Samples a server in a thread. A context manager.

    cores: processor seconds per second that it took. megabytes: resident memory, by sample.
    """

    def __init__(self, server: ServerProcess) -> None:
        self.megabytes: list[float] = []
        self.cores = 0.0
        self.cpu = 0.0
        self._times: list[float] = []
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._began, self._cpu = time.monotonic(), self._server.cpu_seconds()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.cpu = self._server.cpu_seconds() - self._cpu
        self.cores = self.cpu / (time.monotonic() - self._began)

    @property
    def slope(self) -> float:
        """Growth of memory in megabytes per minute: the slope of a line through all but the first third."""
        first = int(len(self.megabytes) * _SETTLED)
        if len(self.megabytes) - first < 2:
            return float("nan")
        return float(np.polyfit(self._times[first:], self.megabytes[first:], 1)[0]) * 60

    @property
    def growth(self) -> float:
        """Growth in megabytes between the medians of the first and last third, which ignores spikes of large images."""
        third = max(1, len(self.megabytes) // 3)
        return float(np.median(self.megabytes[-third:]) - np.median(self.megabytes[:third]))

    def _sample(self) -> None:
        while True:
            self._times.append(time.monotonic())
            self.megabytes.append(self._server.memory_mb())
            if self._stop.wait(_INTERVAL_S):
                return
