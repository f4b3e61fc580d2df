"""The real HAProxy with the very docker/haproxy.cfg."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import httpx

from tests.deployment.programs import find
from tests.waiting import wait_for

CONFIGURATION = Path(__file__).parents[2] / "docker" / "haproxy.cfg"


class Balancer:
    """HAProxy on free ports of the loopback. A context manager; `log` holds what it has written so far.

    It runs as in its image, a master and a worker. All that differs from docker-compose.yml are addresses, which the
    configuration takes from the environment. The sockets are opened here and handed on (HAProxy's `fd@`), so that no
    other process can take a port first.
    replicas: name and port. dns: address of the name server. environment: further variables.
    """

    def __init__(self, replicas: str, dns: str, environment: Mapping[str, str] | None = None) -> None:
        self.log: list[str] = []
        self.port = 0
        self.stats_port = 0
        self._variables = {"POSEWIRE_REPLICAS": replicas, "POSEWIRE_DNS": dns, **(environment or {})}

    def __enter__(self) -> Self:
        program = find("haproxy")
        assert program is not None
        self._folder = tempfile.TemporaryDirectory(prefix="posewire-haproxy-")
        front, stats = (socket.create_server(("127.0.0.1", 0), backlog=1024) for _ in range(2))
        with front, stats:
            self.port, self.stats_port = front.getsockname()[1], stats.getsockname()[1]
            self._variables |= {
                "POSEWIRE_BIND": f"fd@{front.fileno()}",
                "POSEWIRE_STATS_BIND": f"fd@{stats.fileno()}",
                "POSEWIRE_HAPROXY_SOCKET": f"{self._folder.name}/admin.sock",
            }
            self.process = subprocess.Popen(
                [program, "-W", "-db", "-f", str(CONFIGURATION)],
                env=os.environ | self._variables,
                pass_fds=(front.fileno(), stats.fileno()),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self._reader = threading.Thread(target=self._read, name="haproxy-log")
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()  # both of its processes
        self.process.wait()
        self._reader.join()
        self._folder.cleanup()

    @property
    def url(self) -> str:
        """The front door."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def stats_url(self) -> str:
        """Where its own page and metrics are."""
        return f"http://127.0.0.1:{self.stats_port}"

    def servers(self, backend: str = "stills") -> dict[str, dict[str, str]]:
        """HAProxy's statistics of the replicas that it knows, by their address without the port."""
        text = httpx.get(f"{self.stats_url}/;csv", timeout=10).text.removeprefix("# ")
        rows = csv.DictReader(text.splitlines())
        mine = (row for row in rows if row["pxname"] == backend and row["addr"])
        return {row["addr"].rpartition(":")[0]: row for row in mine}

    def states(self, backend: str = "stills") -> dict[str, str]:
        """What HAProxy thinks of each replica: `UP`, `DOWN`, `NOLB` (drains); UP or DOWN with a share: on its way."""
        return {host: row["status"] for host, row in self.servers(backend).items()}

    def totals(self, backend: str) -> dict[str, int]:
        """How many requests each replica has been given so far."""
        return {host: int(row["stot"]) for host, row in self.servers(backend).items()}

    def failed_checks(self, backend: str) -> int:
        """How many checks of replicas have failed so far, for which they may have got no requests for a while."""
        return sum(int(row["chkfail"]) for row in self.servers(backend).values())

    def wait_state(self, host: str, state: str) -> None:
        """Return once HAProxy thinks so of a replica, for stills and for streams."""
        for backend in ("stills", "streams"):
            wait_for(lambda: self.states(backend).get(host) == state)  # noqa: B023 - it is called at once

    def command(self, line: str) -> str:
        """The answer of its runtime API."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(self._variables["POSEWIRE_HAPROXY_SOCKET"])
            admin.sendall(f"{line}\n".encode())
            return admin.makefile().read()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                self.log.append(line.rstrip())
