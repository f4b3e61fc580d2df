"""A real HAProxy that runs docker/haproxy.cfg."""

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
    """HAProxy on free ports of the loopback. A context manager; `log` holds its output so far.

    It runs as in its image, as a master and a worker. Only the addresses differ from docker-compose.yml, and the
    configuration takes them from the environment. The sockets are opened here and passed on (HAProxy's `fd@`), so that
    no other process can take a port first.
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
                encoding="utf-8",
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
        """The address for clients."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def stats_url(self) -> str:
        """The address of its statistics page and metrics."""
        return f"http://127.0.0.1:{self.stats_port}"

    def servers(self, backend: str = "stills") -> dict[str, dict[str, str]]:
        """Return HAProxy's statistics of each known replica, by address without the port."""
        text = httpx.get(f"{self.stats_url}/;csv", timeout=10).text.removeprefix("# ")
        rows = csv.DictReader(text.splitlines())
        mine = (row for row in rows if row["pxname"] == backend and row["addr"])
        return {row["addr"].rpartition(":")[0]: row for row in mine}

    def states(self, backend: str = "stills") -> dict[str, str]:
        """Return the state of each replica: `UP`, `DOWN`, `NOLB` (drains). With a fraction, UP or DOWN is changing."""
        return {host: row["status"] for host, row in self.servers(backend).items()}

    def totals(self, backend: str) -> dict[str, int]:
        """Return how many requests each replica has got so far."""
        return {host: int(row["stot"]) for host, row in self.servers(backend).items()}

    def failed_checks(self, backend: str) -> int:
        """Return how many checks have failed so far, after which a replica may get no requests for a while."""
        return sum(int(row["chkfail"]) for row in self.servers(backend).values())

    def wait_state(self, host: str, state: str) -> None:
        """Wait until a replica has this state in all backends."""
        for backend in ("stills", "streams", "videos"):
            wait_for(lambda: self.states(backend).get(host) == state)  # noqa: B023 - it is called at once

    def command(self, line: str) -> str:
        """Return the response of its runtime API."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(self._variables["POSEWIRE_HAPROXY_SOCKET"])
            admin.sendall(f"{line}\n".encode())
            return admin.makefile().read()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                self.log.append(line.rstrip())
