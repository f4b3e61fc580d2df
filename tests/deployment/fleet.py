"""The deployment of docker-compose.yml without Docker: replicas on separate addresses, DNS, and HAProxy."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.deployment.balancer import Balancer
from tests.deployment.names import NameServer
from tests.servers import ServerProcess

_PORT = 8000
SHARED_KEY = "known to all replicas of these tests"


class Fleet:
    """Replicas behind HAProxy, all real processes on the loopback. A context manager.

    Each replica has an address of its own (127.x.y.1 and up) and port 8000, as containers do, and keeps it when it is
    started again. arguments, catalogue, environment, module: see `ServerProcess`; all replicas get the same.
    balancing: further environment of HAProxy. prefixes: for each replica's command, see `ServerProcess`.
    """

    def __init__(
        self,
        size: int,
        *arguments: str,
        catalogue: Path | None = None,
        environment: Mapping[str, object] | None = None,
        module: str = "service",
        balancing: Mapping[str, str] | None = None,
        prefixes: Sequence[Sequence[str]] = (),
    ) -> None:
        self._size = size
        self._arguments: Sequence[str] = arguments
        self._catalogue = catalogue
        self._environment = {"resume_key": SHARED_KEY, **(environment or {})}
        self._module = module
        self._prefixes = prefixes
        self._network = "127.{}.{}".format(*(1 + byte % 254 for byte in os.urandom(2)))  # different in each run
        self.replicas: list[ServerProcess] = []
        self.names = NameServer()
        self.balancer = Balancer(f"posewire.test:{_PORT}", self.names.address, balancing)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._stop_all)
            self.scale(self._size)
            stack.enter_context(self.names)
            stack.enter_context(self.balancer)
            self.mend()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """The load balancer's address."""
        return self.balancer.url

    @property
    def port(self) -> int:
        """The load balancer's port on 127.0.0.1."""
        return self.balancer.port

    def scale(self, size: int) -> None:
        """Start replicas, or end the last ones, until there are `size`, as `docker compose up --scale` does."""
        leaving = self.replicas[size:]
        self.names.addresses = [replica.host for replica in self.replicas[:size]]
        for replica in leaving:
            replica.process.send_signal(signal.SIGTERM)
        for replica in leaving:
            replica.process.wait(60)
            replica.__exit__(None, None, None)
        del self.replicas[size:]
        fresh = [self._replica(number) for number in range(len(self.replicas), size)]
        with ThreadPoolExecutor() as pool:  # a start is mostly imports
            for replica in pool.map(ServerProcess.__enter__, fresh):
                self.replicas.append(replica)
                self.names.addresses.append(replica.host)

    def start(self, number: int) -> None:
        """Start the replica of this number again after its process has ended."""
        self.replicas[number].__exit__(None, None, None)
        self.replicas[number] = self._replica(number).__enter__()

    def mend(self) -> None:
        """Start ended replicas, continue stopped ones, and wait until all get requests."""
        for number, replica in enumerate(self.replicas):
            replica.process.send_signal(signal.SIGCONT)
            if replica.process.poll() is not None:
                self.start(number)
        for replica in self.replicas:
            self.balancer.wait_state(replica.host, "UP")

    def _replica(self, number: int) -> ServerProcess:
        return ServerProcess(
            *self._arguments,
            catalogue=self._catalogue,
            environment=self._environment,
            module=self._module,
            host=f"{self._network}.{number + 1}",
            port=_PORT,
            prefix=self._prefixes[number] if self._prefixes else (),
        )

    def _stop_all(self) -> None:
        for replica in self.replicas:
            replica.process.send_signal(signal.SIGCONT)  # a test may have left it stopped
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda replica: replica.__exit__(None, None, None), self.replicas))
