"""Probes of a server, as from Kubernetes and HAProxy: a new connection each time, from a separate address."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

_ADDRESS = "127.0.0.100"
_PATIENCE_S = 5.0
LIVE_S, READY_S = 0.2, 1.0
"""Seconds between two probes of a path."""
_READY_TIMEOUT_S, _FALL = 0.8, 2
"""As in docker/haproxy.cfg: a replica is down after two consecutive checks that failed or took longer."""


@dataclass(frozen=True, slots=True)
class Probe:
    """began: monotonic seconds. seconds: until the answer was complete. status: 0 without an answer."""

    path: str
    began: float
    seconds: float
    status: int


class Probes:
    """Requests each server's /livez five times a second and /readyz once a second. A context manager.

    servers: hosts and ports.
    """

    def __init__(self, servers: Iterable[tuple[str, int]]) -> None:
        self._results: dict[tuple[str, int, str], list[Probe]] = {}
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask_always, args=(host, port, path, every), name=f"probe-{port}{path}")
            for host, port in servers
            for path, every in (("/livez", LIVE_S), ("/readyz", READY_S))
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def slowest_live(self, start: float, end: float) -> float:
        """The longest duration of /livez in a period, in seconds. Failures count as 5."""
        probes = (p for (_, _, path), found in self._results.items() if path == "/livez" for p in list(found))
        times = [p.seconds if p.status == 200 else _PATIENCE_S for p in probes if start <= p.began < end]
        return max(times, default=_PATIENCE_S)

    def downs(self, start: float, end: float) -> int:
        """How often HAProxy would have marked a server as down in a period."""
        count = 0
        for (_, _, path), found in self._results.items():
            failed = 0
            for probe in [p for p in list(found) if path == "/readyz" and start <= p.began < end]:
                failed = 0 if probe.status == 200 and probe.seconds < _READY_TIMEOUT_S else failed + 1
                count += failed == _FALL
        return count

    def _ask_always(self, host: str, port: int, path: str, every: float) -> None:
        found = self._results.setdefault((host, port, path), [])
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        while not self._stop.is_set():
            began = time.monotonic()
            status = _ask(host, port, request)
            took = time.monotonic() - began
            found.append(Probe(path, began, took, status))
            self._stop.wait(max(0.0, every - took))


def _ask(host: str, port: int, request: bytes) -> int:
    try:
        with socket.create_connection((host, port), _PATIENCE_S, source_address=(_ADDRESS, 0)) as connection:
            connection.sendall(request)
            data = b""
            while more := connection.recv(4096):
                data += more
    except OSError:
        return 0
    return int(data[9:12]) if data[9:12].isdigit() else 0
