"""Each attack for a second on a real server. `python -m tests.benchmarks attacks` runs and measures longer ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import httpx
import pytest

from tests.benchmarks.attacks.attacker import Attacker
from tests.benchmarks.attacks.deployments import Deployment, deployed
from tests.benchmarks.attacks.listing import ATTACKS, Attack
from tests.benchmarks.attacks.measure import FILES, MEMORY, THREADS, Peak
from tests.service.api.raw import RawSocket
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

_SECONDS, _ENDLESS_S = 1.0, 3.0
_GOOD_ADDRESS = "127.0.0.3"
_GOOD_TIMEOUT_S = 8.0
"""A good request that takes longer counts as shut out. How much slower it gets is measured by the benchmark."""
_ENVIRONMENT = {"memory_mb": 256}
_MORE_MEMORY = 500_000_000
"""Bytes: the memory budget, and the memory of sockets and decoder processes."""


class Target:
    """A server that the tests share until one breaks it. A context manager.

    intact: whether the last test has left it as it was; if not, the next test gets a new server.
    """

    def __init__(self, catalogue: Path) -> None:
        self.intact = False
        self._catalogue = catalogue
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def deployment(self) -> Deployment:
        """Return an intact server. It counts as broken until its test sets `intact`."""
        if not self.intact:
            self._stack.close()
            new = deployed("direct", "--model", "tiny", catalogue=self._catalogue, environment=_ENVIRONMENT)
            self._deployment = self._stack.enter_context(new)
            for replica in self._deployment.replicas:
                self._stack.callback(replica.process.kill)  # a server that an attack keeps busy may not end by itself
        self.intact = False
        return self._deployment


@pytest.fixture(scope="module")
def target(catalogue: Path) -> Iterator[Target]:
    with Target(catalogue) as shared:
        yield shared


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=lambda attack: attack.name)
def test_an_attack_does_not_affect_other_clients(target: Target, jpeg: bytes, attack: Attack) -> None:
    attacked = target.deployment()
    [server] = attacked.replicas
    new_each_time = httpx.Limits(max_keepalive_connections=0)
    transport = httpx.HTTPTransport(local_address=_GOOD_ADDRESS, limits=new_each_time)
    with httpx.Client(base_url=server.url, transport=transport, timeout=_GOOD_TIMEOUT_S) as client:
        alone = client.post("/pose", content=jpeg).json()["people"]
        before, log = attacked.held(), len(server.log)
        attacker = Attacker(attacked.host, attacked.port, _ENDLESS_S if attack.endless else _SECONDS)
        with Peak(attacked) as peak, ThreadPoolExecutor() as pool:
            attacking = pool.submit(attack.run, attacker)
            while not attacking.done():
                assert client.get("/livez").status_code == 200
                assert client.get("/readyz").status_code == 200
                answer = client.post("/pose", content=jpeg)
                assert (answer.status_code, answer.json().get("people")) == (200, alone)
                time.sleep(0.05)
            attacking.result()
        with RawSocket(server.port) as stream:
            stream.send_text("{}")
            assert '"welcome"' in stream.until(1).data.decode()
        assert attack.wrong(attacker.outcomes) == []
        assert peak.bytes - before.memory < _MORE_MEMORY
        assert server.process.poll() is None
        assert attacked.kills() == 0
        assert not [line for line in server.log[log:] if '"level":"error"' in line]
    wait_for(lambda: attacked.held().files <= before.files + FILES)
    wait_for(lambda: attacked.held().threads <= before.threads + THREADS)
    wait_for(lambda: attacked.held().memory <= before.memory + MEMORY)
    target.intact = True
